"""A split by what images show: stable, grouped by image, and nothing lost."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from openpali.data.sources.records import RecordError
from openpali.data.split import split_data

SHARES = [(0.1, 0.0), (0.1, 0.1), (0.5, 0.3)]  # of tests, and of validations


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(200):
        Image.fromarray(np.full((2, 2, 3), i, np.uint8)).save(tmp_path / f"{i}.png")
    return tmp_path


def write(folder: Path, records: list[dict[str, Any]]) -> Path:
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def lines(folder: Path, side: str) -> list[str]:
    return (folder / f"mine-{side}.jsonl").read_text("utf-8").splitlines()


def test_no_image_is_on_both_sides_and_no_line_is_lost(folder: Path) -> None:
    (folder / "copy.png").write_bytes((folder / "3.png").read_bytes())
    records = [{"images": f"{i % 200}.png", "question": f"q{i}", "answers": "a"} for i in range(400)]
    records += [
        {"images": "copy.png", "caption": "c"},
        {"images": ["1.png", "2.png"]},
        {"images": ["2.png", "4.png"]},
    ]
    path = write(folder, records)
    train, test = split_data(path, 0.2).values()
    sides = lines(folder, "train"), lines(folder, "test")
    assert (train.samples, test.samples) == tuple(map(len, sides))
    assert sorted(sides[0] + sides[1]) == sorted(path.read_text("utf-8").splitlines())
    shown = []
    for side in sides:
        files = [file for line in side for file in np.atleast_1d(json.loads(line)["images"])]
        shown.append({(folder / file).read_bytes() for file in files})
    assert not shown[0] & shown[1]
    assert (train.images, test.images) == tuple(map(len, shown))
    assert train.images + test.images == 200
    assert 20 <= test.images <= 60


def test_adding_samples_moves_none(folder: Path) -> None:
    records = [{"images": f"{i}.png", "caption": "c"} for i in range(200)]
    split_data(write(folder, records[:120]), 0.1)
    before = lines(folder, "train"), lines(folder, "test")
    split_data(write(folder, records[::-1]), 0.1)
    assert set(before[0]) <= set(lines(folder, "train"))
    assert set(before[1]) <= set(lines(folder, "test"))


def texts(folder: Path, name: str, count: int) -> Path:
    path = folder / name
    path.write_text("".join(json.dumps({"text": f"document {i}"}) + "\n" for i in range(count)), "utf-8")
    return path


def test_a_side_is_split_as_fairly_as_the_whole(tmp_path: Path) -> None:
    first = split_data(texts(tmp_path, "mine.jsonl", 2000), 0.2)
    for side in ("train", "test"):
        again = split_data(Path(first[side].path), 0.1)
        assert again["test"].samples == pytest.approx(0.1 * first[side].samples, rel=0.4)


def test_a_validation_file_takes_from_the_training_file_alone(tmp_path: Path) -> None:
    path = texts(tmp_path, "mine.jsonl", 1000)
    two = split_data(path, 0.1)
    test = (tmp_path / "mine-test.jsonl").read_text()
    three = split_data(path, 0.1, 0.2)
    assert [*two] == ["train", "test"]
    assert [*three] == ["train", "validation", "test"]
    assert (tmp_path / "mine-test.jsonl").read_text() == test
    found = [line for side in three for line in (tmp_path / f"mine-{side}.jsonl").read_text().splitlines()]
    assert sorted(found) == sorted(path.read_text().splitlines())
    assert [part.share for part in three.values()] == pytest.approx([0.7, 0.2, 0.1], abs=0.04)
    validation = (tmp_path / "mine-validation.jsonl").read_text().splitlines()
    places = [path.read_text().splitlines().index(each) for each in validation]
    assert min(places[:20]) < 300
    assert max(places[:20]) > 700
    split_data(path, 0.1)
    assert not (tmp_path / "mine-validation.jsonl").exists()  # its samples are for training again
    (tmp_path / "mine-validation.jsonl").write_text('{"text": "another"}\n')
    with pytest.raises(ValueError, match=r"mine-validation\.jsonl holds samples"):
        split_data(path, 0.1)


def test_as_many_videos_are_held_out_as_images(tmp_path: Path) -> None:
    lines = []
    for number in range(300):
        frames = [f"{number}-{frame}.png" for frame in range(8)]
        for name in frames:
            (tmp_path / name).write_bytes(name.encode())
        lines.append(json.dumps({"images": frames, "question": "what moves?", "answers": "a cat"}))
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))
    held_out = split_data(tmp_path / "mine.jsonl", 0.1)["test"]
    assert 15 <= held_out.samples <= 45


def drawn(line: bytes, held_out: float, validation: float) -> str:
    """The side of a sample without images, whatever the others are."""
    for _ in range(2):
        number = int.from_bytes(sha256(line).digest(), "big")
        line = str(number).encode()
    place = number / 2**256
    return "test" if place < held_out else "validation" if place < held_out + validation else "train"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(3, 60), first=st.integers(0, 10**6), shares=st.sampled_from(SHARES))
def test_no_side_is_empty_and_others_are_as_drawn(
    tmp_path: Path, count: int, first: int, shares: tuple[float, float]
) -> None:
    path = tmp_path / "mine.jsonl"
    whole = [json.dumps({"text": f"document {first + i}"}).encode() for i in range(count)]
    path.write_bytes(b"\n".join(whole))
    for old in tmp_path.glob("mine-*"):
        old.unlink()
    parts = split_data(path, *shares)
    assert len(parts) == (3 if shares[1] else 2)
    sides = {name: set(Path(part.path).read_bytes().splitlines()) for name, part in parts.items()}
    assert all(sides.values())
    assert sum(map(len, sides.values())) == count
    asked = {name: {line for line in whole if drawn(line, *shares) == name} for name in parts}
    if all(asked.values()):
        assert sides == asked
    assert split_data(path, *shares) == parts


def test_each_side_of_three_groups_has_one(folder: Path) -> None:
    for first in range(0, 180, 6):
        pairs = [[f"{first + 2 * i}.png", f"{first + 2 * i + 1}.png"] for i in range(3)]
        parts = split_data(write(folder, [{"images": pair} for pair in pairs for _ in range(4)]), 0.1, 0.1)
        assert [(part.samples, part.images) for part in parts.values()] == [(4, 2)] * 3
        for part in parts.values():
            Path(part.path).unlink()
    with pytest.raises(ValueError, match=r"8 samples are 2 groups .*: add images, until there are 3 groups"):
        split_data(write(folder, [{"images": pair} for pair in pairs[:2] for _ in range(4)]), 0.1, 0.1)


def test_texts_without_images_are_split_too(folder: Path) -> None:
    train, test = split_data(write(folder, [{"text": f"document {i}"} for i in range(100)]), 0.5).values()
    assert train.samples + test.samples == 100
    assert train.images == test.images == 0
    assert 30 < test.samples < 70


def test_other_samples_are_not_replaced(folder: Path) -> None:
    records = [{"images": f"{i}.png", "caption": str(i)} for i in range(200)]
    path = write(folder, records[:150])
    split_data(path, 0.2)
    path = write(folder, records)
    split_data(path, 0.2)  # more samples
    before = lines(folder, "train")
    own = folder / "mine-test.jsonl"
    own.write_text('{"images": "1.png", "caption": "my own"}\n')
    with pytest.raises(ValueError, match="mine-test"):
        split_data(path, 0.3)
    assert "my own" in own.read_text()
    assert lines(folder, "train") == before


def test_what_cannot_be_split_is_said(folder: Path) -> None:
    one = write(folder, [{"images": "1.png"}])
    with pytest.raises(ValueError, match=r"leave (train|test) of .* empty, whose 1 samples are 1 groups"):
        split_data(one, 0.1)
    for shares in ((0.0,), (1.0,), (float("nan"),), (0.1, 0.9), (0.1, -0.1), (0.1, float("nan"))):
        with pytest.raises(ValueError, match="give a share"):
            split_data(one, *shares)
    with pytest.raises(ValueError, match=r"is not a \.jsonl file: of shards and Parquet files"):
        split_data(folder / "shards", 0.1)
    with pytest.raises(FileNotFoundError):
        split_data(write(folder, [{"images": "gone.png"}]), 0.1)
    with pytest.raises(RecordError):
        split_data(write(folder, [{"imges": "1.png"}]), 0.1)
    assert not list(folder.glob("mine-*"))
