"""Every command of docs/finetune.md runs, section by section, on a few drawn samples and tiny models."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from drawn_data import DATA, draw
from openpali.cli.tune import tune
from openpali.home import home
from openpali.infer.generate import Generation
from openpali.train.load import load_recipe, read_record
from openpali.weights.format import open_model
from openpali.weights.ood import read_ood
from typed_commands import run_typed

TEXT = (Path(__file__).parents[1] / "docs" / "finetune.md").read_text("utf-8")
SHORT = ["batch=2", "workers=0", "phases.0.samples=4", "phases.0.size=72", "optimizer.warmup=0"]
SHORT += ["max_prompt=160", "max_target=256", "evals.0.every=4", "evals.0.limit=1"]


def commands(section: str) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", section, re.S)
    return [line for block in blocks for line in block.splitlines() if line.startswith("openpali ")]


# that of adapters is run by tests/interop/test_paligemma_training.py
WAYS = TEXT.replace(TEXT.partition("## With an adapter")[2].partition("\n## ")[0], "")
SECTIONS = [commands(section) for section in re.split(r"(?m)^##", WAYS) if "openpali explain --source " in section]


def task_of(lines: list[str]) -> str:
    [name] = [line.split()[3] for line in lines if line.startswith("openpali explain --source ")]
    return name


def test_each_task_has_a_section_that_goes_the_whole_way() -> None:
    assert {*map(task_of, SECTIONS)} == DATA.keys()
    for lines in SECTIONS:
        verbs = [" ".join(line.split()[1:3]) if " data " in line else line.split()[1] for line in lines]
        assert [verb for verb in verbs if verb not in ("explain", "data import")] == [
            "data validate", "data split", "eval", "train", "eval", *["predict"] * verbs.count("predict"),
        ]  # fmt: skip
        assert "predict" in verbs


@pytest.mark.parametrize("lines", SECTIONS, ids=map(task_of, SECTIONS))
def test_commands_run(
    lines: list[str], shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    task = task_of(lines)
    monkeypatch.chdir(draw(task, tmp_path / task, 12))
    for drawing in ("curves.draw_curves", "samples.draw_samples"):  # takes most of the time
        monkeypatch.setattr(f"openpali.reports.{drawing}", lambda *anything: None)

    def hold_out_more(arguments: list[str]) -> None:
        if "--held-out" in arguments:
            arguments[-3], arguments[-1] = "0.3", "0.3"  # of so few

    for line in lines:
        run_typed(line, monkeypatch, capsys, {"train": SHORT}, hold_out_more)
    run = home() / "runs" / f"mine-{task}"
    assert {"model", "best"} <= {path.name for path in run.iterdir()}


def test_the_one_command_goes_the_whole_way(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Its commands, at the beginning of the document; the run has the start and the tasks that the data ask for."""
    monkeypatch.chdir(draw("line", tmp_path / "line", 120))
    shutil.rmtree(home() / "runs" / "mine-ocr", ignore_errors=True)  # of another document's file of that name
    for drawing in ("curves.draw_curves", "samples.draw_samples"):
        monkeypatch.setattr(f"openpali.reports.{drawing}", lambda *anything: None)
    monkeypatch.setattr(Generation, "complete", True)  # the tiny model never ends its answers
    short = [each for each in SHORT if not each.startswith("evals.0.limit")]
    lines = commands(TEXT.partition("\n## ")[2].partition("\n## ")[0])
    printed = [run_typed(line, monkeypatch, capsys, {"tune": short}) for line in lines]
    assert [line.split()[1] for line in lines] == ["data", "tune", "predict", "eval", "runs"]
    run = home() / "runs" / "mine-ocr"
    assert {"model", "best", "report.html", "card.json"} <= {path.name for path in run.iterdir()}
    written, trained = load_recipe("mine-ocr.toml"), read_record((run / "recipe.json").read_text())
    assert written.model.init == trained.model.init == {"": "nano/line"}
    sources = trained.phases[0].mixture[0].source, trained.evals[0].source  # type: ignore[attr-defined]
    assert sources == (str(Path("mine-train.jsonl").resolve()), str(Path("mine-validation.jsonl").resolve()))
    card = json.loads((run / "card.json").read_text())
    assert card["n"] == len(Path("mine-test.jsonl").read_text().splitlines())
    assert "openpali train mine-ocr.toml" in printed[1]
    assert "forgets what else nano/line could do" in printed[1]
    assert open_model(run / "best").facts.calibration.keys() == {"ocr"}
    assert read_ood(run / "best") is not None
    assert "ece" in card["scores"], "the card is of the calibrated model"
    whole = Path("mine.jsonl").read_text().splitlines(keepends=True)
    Path("mine.jsonl").write_text("".join(whole[:-1]))
    for side in ("train", "validation", "test"):
        Path(f"mine-{side}.jsonl").unlink()
    with pytest.raises(ValueError, match="has changed since the run"):
        tune(Path("mine.jsonl"), short, "ocr")
