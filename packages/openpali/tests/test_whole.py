"""Files and folders that are there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from openpali.home import make_once
from openpali.whole import replacing


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with replacing(path) as first:
        first.write_text("first")
        with replacing(path) as second:
            second.write_text("second")
            assert not path.exists()
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert files(tmp_path) == ["new/file"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as new:
            new.write_text("half")
            raise ValueError("torn")

    with pytest.raises(ValueError):
        fail()
    assert files(tmp_path) == ["file"]
    assert path.read_text() == "old"


def test_a_folder_is_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "folder"

    def make(written: Path) -> None:
        written.mkdir()
        (written / "file").write_text("mine")

    def make_late(written: Path) -> None:
        make(written)
        make_once(folder, make)  # another process is faster
        (written / "file").write_text("late")

    def fail(written: Path) -> None:
        make(written)
        raise OSError("the disk is full")

    with pytest.raises(OSError):
        make_once(folder, fail)
    assert files(tmp_path) == []
    assert make_once(folder, make_late) == folder
    assert (folder / "file").read_text() == "mine"
    assert make_once(folder, fail) == folder
    assert files(tmp_path) == ["folder/file"]
