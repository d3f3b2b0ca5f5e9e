"""Samples from Parquet files: one record per row, images in the row or in files beside it (docs/data.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np

from openpali.data.media.loader import DEFAULT_MEDIA, MediaLoader
from openpali.data.sources.files import base_name, find_files, is_url, open_file, read_beside
from openpali.data.sources.records import Record, RecordError, RecordSource, parse_record
from openpali.messages import cannot_import

ROW_GROUPS = 4  # kept in memory by each process; samples come in random order, so small row groups are faster


class ParquetSource(RecordSource):
    """Examples by index from Parquet files, in the order of the file names.

    Each column is a field of the record; an unknown column is an error, an empty value is a missing field.
    ``images`` (or ``image``) holds paths relative to the file, encoded images as bytes, Hugging Face's
    ``{"bytes", "path"}``, or lists of these. ``objects`` and ``captions`` may be JSON texts. Reading a sample reads
    its whole row group, and the last few groups are kept: 100 rows per group are good, 10,000 are slow.

    Args:
        path: a folder with ``.parquet`` files, one such file, a pattern, or a URL of either.
        media: how images and videos are decoded.
    """

    def __init__(self, path: str | Path, media: MediaLoader = DEFAULT_MEDIA) -> None:
        self.media = media
        self._files = find_files(str(path), ".parquet")
        self._metadata = [_open(name).metadata for name in self._files]
        groups = [
            (number, group, metadata.row_group(group).num_rows)
            for number, metadata in enumerate(self._metadata)
            for group in range(metadata.num_row_groups)
        ]
        self._groups = np.array(groups, np.int64).reshape(-1, 3)  # file, row group in it, rows
        self._ends = np.cumsum(self._groups[:, 2])
        if not len(self):
            raise ValueError(f"{path} has no rows")
        self._kept: dict[int, Any] = {}  # row group -> pyarrow's table, in the order of reading

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def where(self, index: int) -> str:
        """File and row, counted from 1: "train.parquet:12"."""
        group, row = self._find(index)
        number = self._groups[group, 0]
        before = self._groups[:group, 2][self._groups[:group, 0] == number].sum()
        return f"{base_name(self._files[number])}:{before + row + 1}"

    def record(self, index: int) -> Record:
        where, fields = self.where(index), _drop_empty(self._row(index))
        images = _images(fields)
        fields.pop("image", None)
        fields["images"] = [_name(number, image) for number, image in enumerate(images)]
        for field in ("objects", "captions"):
            if isinstance(fields.get(field), str):
                try:
                    fields[field] = json.loads(fields[field])
                except ValueError as error:
                    raise RecordError(f"{where}: {field} is not valid JSON: {error}") from error
        captions = fields.get("captions")
        if isinstance(captions, list) and all(isinstance(each, tuple) for each in captions):  # Arrow's map type
            fields["captions"] = dict(captions)
        return parse_record(json.dumps(fields, default=str), where)

    def read(self, index: int, name: str) -> bytes:
        row = self._row(index)
        for number, image in enumerate(_images(row)):
            if _name(number, image) == name and (data := _bytes(image)) is not None:
                return data
        return read_beside(self._files[self._groups[self._find(index)[0], 0]], name, self.where(index))

    def _find(self, index: int) -> tuple[int, int]:
        """The row group that holds a sample, and the row in it."""
        index = range(len(self))[index]  # IndexError past the end
        group = int(np.searchsorted(self._ends, index, side="right"))
        return group, index - int(self._ends[group] - self._groups[group, 2])

    def _row(self, index: int) -> dict[str, Any]:
        group, row = self._find(index)
        if group not in self._kept:
            number, within, _ = self._groups[group]
            file = _open(self._files[number], self._metadata[number])
            try:
                table = file.read_row_group(within, use_threads=False)
            except (ValueError, OSError) as error:
                reason = str(error).partition("\n")[0]
                raise ValueError(f"{self.where(index)}: its row group is damaged: {reason}") from error
            if len(self._kept) >= ROW_GROUPS:
                del self._kept[next(iter(self._kept))]
            self._kept[group] = table
        [found] = self._kept[group].slice(row, 1).to_pylist()
        return cast(dict[str, Any], found)


def _open(name: str, metadata: Any = None) -> Any:
    """pyarrow's reader of a file, opened for each use: processes share no file handle."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ValueError(cannot_import(f"{name} needs pyarrow", "openpali[parquet]", error)) from error
    try:
        return pq.ParquetFile(open_file(name) if is_url(name) else name, metadata=metadata, pre_buffer=False)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no file {name}") from error
    except pa.ArrowInvalid as error:
        raise ValueError(f"{name} is not a Parquet file, or was cut off: {error}") from error


def _images(row: dict[str, Any]) -> list[Any]:
    """What a row has in its column ``images``, or else in ``image``."""
    found = row.get("images") or row.get("image")
    return found if isinstance(found, list) else [] if found is None else [found]


def _bytes(image: Any) -> bytes | None:
    found = image.get("bytes") if isinstance(image, dict) else image
    return found if isinstance(found, bytes) else None


def _name(number: int, image: Any) -> str:
    """How a record names an image: by its path, or, where its bytes are in the row, by column and number."""
    path = image.get("path") or "" if isinstance(image, dict) else image if isinstance(image, str) else ""
    return path if _bytes(image) is None else f"images.{number}{Path(path).suffix}"


def _drop_empty(value: Any) -> Any:
    """``value`` without the empty values that Parquet has where a record omits a field."""
    if isinstance(value, dict):
        return {key: _drop_empty(each) for key, each in value.items() if each is not None}
    return [_drop_empty(each) for each in value] if isinstance(value, list) else value
