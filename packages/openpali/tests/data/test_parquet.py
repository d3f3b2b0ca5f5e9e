"""Parquet: rows are records, images inside or beside, any order."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from openpali.data.sources.parquet import ROW_GROUPS, ParquetSource
from openpali.data.sources.records import RecordError
from openpali.data.sources.registry import open_source
from openpali.data.validate import validate


def image_bytes(value: int, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (5, 4), (value, 0, 0)).save(out, kind)
    return out.getvalue()


def write(path: Path, rows: list[dict[str, Any]], group: int = 10) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=group)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """95 rows in two files, row groups of 10."""
    for name, numbers in (("a", range(60)), ("b", range(60, 95))):
        write(tmp_path / f"{name}.parquet", [{"image": image_bytes(i), "label": f"l{i}"} for i in numbers])
    return tmp_path


def test_rows_are_read_in_any_order_with_few_row_groups_in_memory(folder: Path) -> None:
    source = open_source(str(folder), {})
    assert isinstance(source, ParquetSource)
    assert len(source) == 95
    for index in [*np.random.default_rng(0).permutation(95).tolist(), -1]:
        example = source[index]
        assert example.label == f"l{index % 95}"
        assert example.images[0][0, 0, 0] == index % 95
        assert len(source._kept) <= ROW_GROUPS
    assert (source.where(59), source.where(60), source.where(94)) == ("a.parquet:60", "b.parquet:1", "b.parquet:35")
    with pytest.raises(IndexError):
        source[95]
    assert pickle.loads(pickle.dumps(source))[61].label == "l61"
    assert len(open_source(str(folder / "b.parquet"), {})) == 35


def test_images_may_be_bytes_structs_or_paths(tmp_path: Path) -> None:
    (tmp_path / "beside.png").write_bytes(image_bytes(3))
    ways: list[Any] = [
        {"image": image_bytes(1)},
        {"image": {"bytes": image_bytes(2, "JPEG"), "path": "x.jpg"}},
        {"image": "beside.png"},
        {"image": {"bytes": None, "path": "beside.png"}},
        {"images": [image_bytes(5), image_bytes(6)]},
        {"images": [], "image": image_bytes(4)},
        {"images": [{"bytes": image_bytes(7), "path": None}, {"bytes": image_bytes(8), "path": None}]},
    ]
    expected = [[1], [2], [3], [3], [5, 6], [4], [7, 8]]
    for number, (way, values) in enumerate(zip(ways, expected, strict=True)):
        path = write(tmp_path / f"{number}.parquet", [way | {"caption": "a"}])
        assert [int(image[0, 0, 0]) for image in ParquetSource(path)[0].images] == values


def test_fields_may_have_many_types(tmp_path: Path) -> None:
    thing = {"name": "cat", "box": [1.0, 2.0, 3.0, 4.0], "mask": None}
    rows = [
        {
            "images": [image_bytes(0)],
            "objects": [thing],
            "answers": ["a", "b"],
            "question": "what?",
            "captions": None,
        },
        {"images": None, "objects": None, "answers": None, "question": None, "captions": '{"de": "Hund"}'},
    ]
    source = ParquetSource(write(tmp_path / "x.parquet", rows))
    assert source[0].objects[0].name == "cat"
    assert source[0].answers == ("a", "b")
    assert source[1].captions == {"de": ("Hund",)}
    assert source[1].images == []
    table = pa.table({"captions": pa.array([[("de", "Hund"), ("en", "dog")]], pa.map_(pa.string(), pa.string()))})
    pq.write_table(table, tmp_path / "map.parquet")
    assert ParquetSource(tmp_path / "map.parquet")[0].captions == {"de": ("Hund",), "en": ("dog",)}
    text = write(tmp_path / "text.parquet", [{"image": image_bytes(0), "objects": json.dumps([thing])}])
    assert ParquetSource(text)[0].objects[0].box.ymax == 3


def test_errors_name_file_row_and_field(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_source(str(tmp_path / "gone.parquet"), {})
    (tmp_path / "no.parquet").write_bytes(b"no parquet at all" * 9)
    pq.write_table(pa.table({"label": pa.array([], pa.string())}), tmp_path / "none.parquet")
    for name in ("no.parquet", "none.parquet"):
        with pytest.raises(ValueError, match=name):
            open_source(str(tmp_path / name), {})
    rows = [
        {"image": "gone.png", "captoin": None, "objects": None},
        {"image": None, "captoin": "x", "objects": None},
        {"image": None, "captoin": None, "objects": "{"},
    ]
    source = ParquetSource(write(tmp_path / "x.parquet", rows))
    for index, kind, named in (
        (0, FileNotFoundError, "x.parquet:1: .*gone.png"),
        (1, RecordError, "x.parquet:2: .*captoin"),
        (2, RecordError, "x.parquet:3: objects"),
    ):
        with pytest.raises(kind, match=named):
            source[index]
    assert validate(tmp_path / "x.parquet").problems == {"missing file": 1, "bad record": 2}


@pytest.mark.parametrize("captions", [[{"lang": "de", "text": "Hund"}], ["Hund"], [3]])
def test_captions_without_their_languages_are_an_error(tmp_path: Path, captions: list[Any]) -> None:
    source = ParquetSource(write(tmp_path / "x.parquet", [{"captions": captions}]))
    with pytest.raises(RecordError):
        source[0]


def test_a_damaged_row_group_is_a_value_error(folder: Path) -> None:
    path = folder / "a.parquet"
    content = bytearray(path.read_bytes())
    source = ParquetSource(path)
    content[4:300] = b"\xff" * 296  # of the first row group; the others are whole
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"a.parquet:1: its row group is damaged: "):
        source[0]
    assert source[45].label == "l45"
    path.unlink()
    with pytest.raises(FileNotFoundError):
        source[30]


def test_urls_work_in_forked_workers(folder: Path) -> None:
    fsspec.filesystem("memory").pipe("/p/a.parquet", (folder / "a.parquet").read_bytes())
    assert open_source("memory://p/a.parquet", {})[59].label == "l59"
    source = ParquetSource(folder)
    first = source[0].label  # the parent has read already
    loader = DataLoader(Labels(source), batch_size=5, num_workers=2, multiprocessing_context="fork")  # type: ignore[arg-type]
    assert [int(v) for batch in loader for v in batch] == list(range(95))
    assert first == "l0"


class Labels:
    def __init__(self, source: ParquetSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> int:
        return int(self.source[index].label[1:])
