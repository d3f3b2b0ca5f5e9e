"""The runs in the cache folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_runs import make_recipe
from typer.testing import CliRunner

from openpali.cli.main import app
from openpali.home import home
from openpali.locks import lock
from openpali.train.runs import StoredRun, find_run, find_runs, folder_for, remove_run


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs, one of them in a folder of the other's name, and the record of one that cannot be read."""
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path))
    for name, record in {"mine": make_recipe(), "mine/first": make_recipe(), "old": None}.items():
        folder = home() / "runs" / name
        folder.mkdir(parents=True)
        (folder / "recipe.json").write_text("{}" if record is None else record.model_dump_json())
    (home() / "runs" / "mine" / "first" / "model").mkdir()
    (home() / "runs" / "mine" / "first" / "model" / "weights").write_bytes(bytes(1000))
    return tmp_path


def test_runs_are_listed_with_their_lengths_and_sizes(stored: Path) -> None:
    found = {run.name: run for run in find_runs()}
    assert {name: (run.samples, run.total) for name, run in found.items()} == {
        "mine": (0, 24), "mine/first": (0, 24), "old": (None, None),
    }  # fmt: skip
    record = (home() / "runs" / "mine" / "recipe.json").stat().st_size
    assert found["mine/first"].bytes == record + 1000
    described = json.loads(CliRunner().invoke(app, ["runs", "--json"]).output)
    assert [StoredRun(**{**each, "folder": Path(each["folder"])}) for each in described] == find_runs()
    printed = CliRunner().invoke(app, ["runs"]).output
    assert [line.split()[0] for line in printed.splitlines()] == ["mine", "mine/first", "old", "3"]


def test_a_run_is_found_by_its_name(stored: Path) -> None:
    assert find_run("mine/first") == home() / "runs" / "mine" / "first"
    for command in (["runs", "--plot", "mine/frist"], ["runs", "--remove", "mine/frist"]):
        error = CliRunner().invoke(app, command).exception
        assert isinstance(error, ValueError)
        assert str(error) == f"no run 'mine/frist' in {home() / 'runs'}; did you mean 'mine/first'?"


def test_only_runs_are_removed(stored: Path) -> None:
    kept = home() / "data"
    kept.mkdir()
    for name in ("", ".", "..", "../data", "mine/", "mine/first/model", str(kept)):
        with pytest.raises(ValueError):
            remove_run(name)
    with pytest.raises(ValueError, match="the run mine holds mine/first: remove that first"):
        remove_run("mine")
    assert CliRunner().invoke(app, ["runs", "--remove", "mine/first", "--remove", "mine"]).exit_code == 0
    assert [run.name for run in find_runs()] == ["old"]
    assert kept.is_dir()


def test_a_run_that_is_trained_is_not_removed(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(file: Path, busy: str):  # type: ignore[no-untyped-def]
        raise ValueError(busy)

    monkeypatch.setattr("openpali.train.runs.lock", taken)  # a process is given its own lock again
    with pytest.raises(ValueError):
        remove_run("old")
    monkeypatch.setattr("openpali.train.runs.lock", lock)
    assert remove_run("old").name == "old"


@pytest.mark.parametrize("given", ["", ".", "..", "/", "inner/.."])
def test_a_run_has_a_folder_of_its_own(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner").mkdir()
    with pytest.raises(ValueError, match="name one of its own"):
        folder_for("mine", Path(given))
    assert folder_for("mine", Path("inner")) == Path("inner")
    (tmp_path / "recipe.json").touch()
    assert folder_for("mine", Path()) == Path()  # it goes on
