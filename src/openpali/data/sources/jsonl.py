"""Samples from a JSONL file with picture files beside it (docs/data.md)."""

from __future__ import annotations

import codecs
from pathlib import Path

import numpy as np

from openpali.data.sources.records import Pictures, Record, RecordSource, parse_record


class JsonlSource(RecordSource):
    """Examples by index from a JSONL file: one record a line, blank lines left out.

    The file is read once, for where its lines start; a record and its pictures are read when asked for.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no records.
    """

    def __init__(self, path: str | Path, pictures: Pictures = Pictures()) -> None:  # noqa: B008
        self.path, self.pictures = Path(path).expanduser(), pictures
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
            raise ValueError(f"{self.path} holds no records")
        # Arrays, not lists: forked workers would copy a list's pages by counting references.
        self._starts, self._ends, self._numbers = (np.array(x, np.int64) for x in (starts, ends, numbers))

    def __len__(self) -> int:
        return len(self._starts)

    def where(self, index: int) -> str:
        """File and line of a record, "train.jsonl:12"."""
        return f"{self.path.name}:{self._numbers[range(len(self))[index]]}"

    def record(self, index: int) -> Record:
        index = range(len(self))[index]  # IndexError past the end
        # Opened anew each time: nothing to share between processes, and next to decoding it costs nothing.
        with self.path.open("rb") as file:
            file.seek(self._starts[index])
            line = file.read(int(self._ends[index] - self._starts[index]))
        return parse_record(line, self.where(index))

    def read(self, index: int, name: str) -> bytes:
        path = self.path.parent / name
        if not path.is_file():
            raise FileNotFoundError(f"{self.where(index)}: no file {path}")
        return path.read_bytes()
