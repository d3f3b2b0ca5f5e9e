"""The notebooks run from top to bottom, on tiny models and with a few samples."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from openpali.home import home
from typed_commands import run_typed

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
SHORT = ["batch=2", "workers=0", "phases.0.samples=4", "optimizer.warmup=0", "max_prompt=160", "max_target=160"]
TINY = ["scale=0.00001", "batch=4", "micro=1", "workers=0"]  # of nano's size, as the text part that it starts from


@pytest.fixture(autouse=True)
def _quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for drawing in ("curves.draw_curves", "samples.draw_samples"):  # takes most of the time
        monkeypatch.setattr(f"openpali.reports.{drawing}", lambda *anything: None)


def run_notebook(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, more: Mapping[str, Sequence[str]]
) -> dict[str, object]:
    """Run every cell; returns the names that they define."""
    names: dict[str, object] = {}
    for cell in json.loads((FOLDER / f"{name}.ipynb").read_text("utf-8"))["cells"]:
        source = "".join(cell["source"]).replace("limit = 200", "limit = 4")
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "clear the outputs: they would be those of another model"
            if source.startswith("!"):
                for line in source.splitlines():
                    run_typed(line.removeprefix("!"), monkeypatch, capsys, more)
            else:
                exec(compile(source, f"{name}.ipynb", "exec"), names)
    return names


def test_ask_and_fine_tune(shipped: Path, monkeypatch, capsys) -> None:
    shutil.rmtree(home() / "runs" / "mine-vqa", ignore_errors=True)  # that of test_finetune_doc.py
    more = {"train": [*SHORT, "evals.0.every=4", "evals.0.limit=1"], "eval": ["--limit", "2"]}
    run_notebook("ask-and-fine-tune", monkeypatch, capsys, more)
    assert {"model", "best"} <= {path.name for path in (home() / "runs" / "mine-vqa").iterdir()}


def test_table_1(world_with_vocabulary: Path, monkeypatch, capsys) -> None:
    names = run_notebook("table1", monkeypatch, capsys, {"study": TINY})
    rows = names["table"]["rows"]
    assert [row["column"] for row in rows] == ["captions", "text, words"]
    assert all(row["differences"].keys() == {"siglip"} for row in rows)
