"""Samples from a JSONL file with image files beside it (docs/data.md)."""

from __future__ import annotations

import codecs
from pathlib import Path

import numpy as np

from openpali.data.media.loader import DEFAULT_MEDIA, MediaLoader
from openpali.data.sources.files import open_file, read_beside
from openpali.data.sources.records import Record, RecordSource, parse_record


class JsonlSource(RecordSource):
    """Examples by index from a JSONL file: one record per line; blank lines are skipped.

    The constructor reads the file once to find the lines; a record and its images are read on demand.
    """

    def __init__(self, path: str | Path, media: MediaLoader = DEFAULT_MEDIA) -> None:
        self.path, self.media = Path(path).expanduser(), media
        if not self.path.is_file():
            raise FileNotFoundError(f"no data file {self.path}")
        starts, ends, numbers = [], [], []
        with self.path.open("rb") as file:
            position = len(codecs.BOM_UTF8) if file.read(3) == codecs.BOM_UTF8 else 0
            file.seek(position)
            for number, line in enumerate(file, 1):
                if not line.isspace():
                    starts.append(position)
                    ends.append(position + len(line))
                    numbers.append(number)
                position += len(line)
        if not starts:
            raise ValueError(f"{self.path} has no records: write one JSON object per line")
        # Arrays, since reference counts would make forked workers copy the memory pages of lists.
        self._starts, self._ends, self._numbers = (np.array(x, np.int64) for x in (starts, ends, numbers))

    def __len__(self) -> int:
        return len(self._starts)

    def where(self, index: int) -> str:
        """File and line of a record, "train.jsonl:12"."""
        return f"{self.path.name}:{self._numbers[range(len(self))[index]]}"

    def record(self, index: int) -> Record:
        return parse_record(self.line(index), self.where(index))

    def line(self, index: int) -> bytes:
        """The line of a record, as it is in the file."""
        index = range(len(self))[index]  # IndexError past the end
        # Opened for each read: processes share no file handle, and the cost is small beside decoding.
        with open_file(str(self.path)) as file:
            file.seek(self._starts[index])
            return file.read(int(self._ends[index] - self._starts[index]))

    def read(self, index: int, name: str) -> bytes:
        return read_beside(str(self.path), name, self.where(index))
