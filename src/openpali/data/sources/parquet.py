"""Samples from Parquet files: one row a record, pictures inside of it or in files beside (docs/data.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np

from openpali.data.sources.files import find_files, is_url, open_file
from openpali.data.sources.records import Pictures, Record, RecordError, RecordSource, parse_record

ROW_GROUPS = 4  # that each process keeps; samples come in any order, so small row groups are read best


class ParquetSource(RecordSource):
    """Examples by index from Parquet files, in the order of their names.

    A column is a field of the record; columns of another name are an error, empty values are fields left out.
    ``images`` (or ``image``) holds paths relative to the file, pictures as bytes, or what Hugging Face's data sets
    hold, ``{"bytes", "path"}``; or lists of these. ``objects`` and ``captions`` may be JSON texts. A sample is read
    with all of its row group, and the last few of those are kept: 100 rows a group are good, 10,000 are slow.

    Args:
        path: a folder with ``.parquet`` files, one such file, a pattern, or a URL of either.
        pictures: how they are decoded.

    Raises:
        FileNotFoundError: there are no such files.
        ValueError: a file is no Parquet, there are no rows, or pyarrow (``pip install openpali[parquet]``) is
            missing.
    """

    def __init__(self, path: str | Path, pictures: Pictures = Pictures()) -> None:  # noqa: B008
        self.pictures = pictures
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
            raise ValueError(f"{path} holds no rows")
        self._kept: dict[int, Any] = {}  # row group -> pyarrow's table; the newest last

    def __len__(self) -> int:
        return int(self._groups[:, 2].sum())

    def where(self, index: int) -> str:
        """File and row in it, "train.parquet:12", counted from 1 on."""
        group, row = self._find(index)
        number = self._groups[group, 0]
        before = self._groups[:group, 2][self._groups[:group, 0] == number].sum()
        return f"{self._files[number].rpartition('/')[2]}:{before + row + 1}"

    def record(self, index: int) -> Record:
        where, fields = self.where(index), _given(self._row(index))
        pictures = _listed(fields.pop("images", fields.pop("image", None)))
        fields["images"] = [_name(number, picture) for number, picture in enumerate(pictures)]
        for field in ("objects", "captions"):
            if isinstance(fields.get(field), str):
                try:
                    fields[field] = json.loads(fields[field])
                except ValueError as error:
                    raise RecordError(where, {field: f"it is no JSON: {error}"}) from error
        if isinstance(fields.get("captions"), list):  # a column of Arrow's type map
            fields["captions"] = dict(fields["captions"])
        return parse_record(json.dumps(fields, default=str), where)

    def read(self, index: int, name: str) -> bytes:
        row = self._row(index)
        for number, picture in enumerate(_listed(row.get("images") or row.get("image"))):
            if _name(number, picture) == name and (data := _bytes(picture)) is not None:
                return data
        folder = self._files[self._groups[self._find(index)[0], 0]].rpartition("/")[0] or "."
        try:
            with open_file(f"{folder}/{name}") as file:
                return file.read()
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self.where(index)}: no file {folder}/{name}") from error

    def _find(self, index: int) -> tuple[int, int]:
        """The row group that a sample is in, and which of its rows it is."""
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
    """pyarrow's reader of a file. Opened anew each time: nothing to share between processes."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ValueError(f"{name} needs pyarrow: pip install 'openpali[parquet]'") from error
    try:
        return pq.ParquetFile(open_file(name) if is_url(name) else name, metadata=metadata, pre_buffer=False)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{name} is no Parquet file, or was cut off: {error}") from error


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _bytes(picture: Any) -> bytes | None:
    found = picture.get("bytes") if isinstance(picture, dict) else picture
    return found if isinstance(found, bytes) else None


def _name(number: int, picture: Any) -> str:
    """What a record calls a picture: its path, or, where its bytes are in the row, its column and number."""
    path = picture.get("path") or "" if isinstance(picture, dict) else picture if isinstance(picture, str) else ""
    return path if _bytes(picture) is None else f"images.{number}{Path(path).suffix}"


def _given(value: Any) -> Any:
    """Without the empty values that Parquet has where a record leaves a field out."""
    if isinstance(value, dict):
        return {key: _given(each) for key, each in value.items() if each is not None}
    return [_given(each) for each in value] if isinstance(value, list) else value
