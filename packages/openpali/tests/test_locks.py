"""Locks against a second process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from openpali import locks
from openpali.eval.predictions import PredictionsFile
from openpali.locks import Unlocked, lock, lock_output


@contextmanager
def another_process(call: str) -> Iterator[None]:
    """Another process that has called a function of the module and goes on."""
    code = f"from openpali.locks import *; from pathlib import Path; held = {call}; print(flush=True); input()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def test_a_lock_keeps_another_process_away_until_it_ends(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    with another_process(f"lock(Path({str(file)!r}), '')"), pytest.raises(ValueError):
        lock(file, "wait for the other")
    lock(file, "").close()


def test_without_locks_a_folder_can_still_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "fcntl", None)  # as on Windows
    file = tmp_path / ".lock"
    with pytest.warns(Unlocked), lock(file, ""), lock(file, ""):
        assert file.is_file()
    assert lock_output(tmp_path / "answers.jsonl") is None


def test_two_processes_do_not_append_to_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path / "home"))
    path = tmp_path / "answers.jsonl"
    file = PredictionsFile(path, {"benchmark": "x"})
    with another_process(f"lock_output(Path({str(path)!r}))"):
        with pytest.raises(ValueError, match=r"answers\.jsonl is written by another process: wait for its end"):
            file.go_on()
        assert not path.exists()
        assert PredictionsFile(tmp_path / "others.jsonl", {}).go_on() == []
    assert file.go_on() == []
    assert list(tmp_path.glob("*.lock")) == []


def test_a_cache_folder_that_cannot_be_written_locks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").write_text("a file, not a folder")
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path / "home"))
    assert lock_output(tmp_path / "answers.jsonl") is None
