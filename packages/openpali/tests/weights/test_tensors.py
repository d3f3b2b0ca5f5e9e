"""Tensors on disk: one file or shards, mapped, replaced whole."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from openpali.tensors import INDEX, WEIGHTS, MappedTensors, give_back, shapes, write_tensors

TENSORS = {
    "a": torch.arange(6.0).view(2, 3),
    "b": torch.ones(4, dtype=torch.bfloat16),
    "c": torch.arange(5),
    "d": torch.arange(6.0).view(2, 3).T,  # not contiguous
}


def same(folder: Path, expected: dict[str, torch.Tensor]) -> None:
    mapped = MappedTensors(folder)
    assert mapped.keys() == expected.keys()
    for key, tensor in expected.items():
        assert mapped[key].dtype == tensor.dtype
        assert torch.equal(mapped[key], tensor)
    assert shapes(mapped) == {key: tuple(tensor.shape) for key, tensor in expected.items()}


def resident_kilobytes(kind: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind))


def mapped_kilobytes() -> int:
    """Of files; those in memory, as /tmp may be, count as shared."""
    return resident_kilobytes("RssFile") + resident_kilobytes("RssShmem")


def test_one_file(tmp_path: Path) -> None:
    write_tensors(tmp_path / "model", TENSORS)
    same(tmp_path / "model", TENSORS)
    assert [path.name for path in (tmp_path / "model").iterdir()] == [WEIGHTS]


def test_shards_respect_their_limit_and_an_index_locates_tensors(tmp_path: Path) -> None:
    write_tensors(tmp_path, TENSORS, shard_bytes=40)
    same(tmp_path, TENSORS)
    names = ["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors"]
    names.append("model-00003-of-00003.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, INDEX]
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["weight_map"] == {"a": names[0], "b": names[0], "c": names[1], "d": names[2]}
    assert index["metadata"]["total_size"] == 24 + 8 + 40 + 24


def test_old_files_are_replaced_atomically(tmp_path: Path) -> None:
    for i, (shard_bytes, files) in enumerate([(40, 4), (1 << 20, 1), (24, 5), (40, 4)]):
        tensors = {key: tensor + i for key, tensor in TENSORS.items()}
        write_tensors(tmp_path, tensors, shard_bytes=shard_bytes)
        same(tmp_path, tensors)
        assert len(list(tmp_path.iterdir())) == files


def test_weights_have_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    write_tensors(tmp_path, TENSORS, shard_bytes=40)
    (tmp_path / "new").touch()
    assert {file.stat().st_mode for file in tmp_path.iterdir()} == {(tmp_path / "new").stat().st_mode}


def test_files_are_mapped_and_pages_read_when_touched(tmp_path: Path) -> None:
    """Two shards of 32 MB: opening and getting costs nothing, touching one costs one, writing copies its pages."""
    mega = {key: torch.ones(8 << 20) for key in "xy"}
    write_tensors(tmp_path, mega, shard_bytes=40 << 20)
    assert not (tmp_path / WEIGHTS).exists()
    before = mapped_kilobytes()
    x, y = (MappedTensors(tmp_path)[key] for key in "xy")
    assert mapped_kilobytes() - before < 8 << 10
    x.sum()
    assert 30 << 10 < mapped_kilobytes() - before < 40 << 10
    y.add_(1)
    assert MappedTensors(tmp_path)["y"].max() == 1  # the file stays as it is


def test_pages_that_are_given_back_are_read_again(tmp_path: Path) -> None:
    write_tensors(tmp_path, {"x": torch.arange(8 << 20)})
    with (tmp_path / WEIGHTS).open("rb") as file:
        os.fsync(file.fileno())
    x, own = MappedTensors(tmp_path)["x"], torch.arange(8 << 20)
    total = x.sum()
    before = mapped_kilobytes()
    give_back([x[3:], own, torch.zeros(1)])
    assert mapped_kilobytes() < before - (60 << 10)
    assert x.sum() == own.sum() == total


@pytest.mark.parametrize("damage", ["missing", "truncated", "index", "liar", "nothing"])
def test_damage_is_named(tmp_path: Path, damage: str) -> None:
    write_tensors(tmp_path, TENSORS, shard_bytes=40)
    second, index = tmp_path / "model-00002-of-00003.safetensors", tmp_path / INDEX
    message = rf"{second.name} is damaged"
    if damage == "missing":
        second.unlink()
        message = f"no weights in {tmp_path}: it has no {second.name}"
    elif damage == "truncated":
        second.write_bytes(second.read_bytes()[:-3])
    elif damage == "index":
        index.write_text('{"weight_map": ["a"]}')
        message = f"{INDEX} is no index of weights"
    elif damage == "liar":
        described = json.loads(index.read_text())
        described["weight_map"] |= {"e": second.name, "f": second.name}
        index.write_text(json.dumps(described))
        message = "names tensors that its files do not hold: e, f"
    else:
        for path in tmp_path.iterdir():
            path.unlink()
        message = f"it has no {WEIGHTS}"
    with pytest.raises(ValueError, match=message):
        MappedTensors(tmp_path)


def test_an_index_cannot_reach_out_of_its_folder(tmp_path: Path) -> None:
    write_tensors(tmp_path / "secret", {"a": torch.ones(1)})
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": "../secret/model.safetensors"}}))
    with pytest.raises(ValueError):
        MappedTensors(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt"])
def test_a_pickle_is_named_and_not_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
    with pytest.raises(ValueError, match=rf"holds no {WEIGHTS}, but {name}: a pickle, .* docs/weights.md"):
        MappedTensors(tmp_path)
    write_tensors(tmp_path, TENSORS)
    same(tmp_path, TENSORS)  # other files in the folder are ignored
