"""``[[evals]]``: scores while a run trains, which change nothing of it; the best checkpoint; early stops."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_runs import Killed, assert_same_run, kill_at, make_recipe, metrics_of, tensors_of

import openpali.train.evals as evals_module
import openpali.train.monitor as monitor_module
import openpali.train.trainer as trainer_module
from openpali.cli.main import main
from openpali.eval.evaluators import AnswerEvaluator, LossEvaluator
from openpali.infer.pali import Pali
from openpali.infer.pipeline import Pipeline
from openpali.reports.curves import draw_curves
from openpali.train.checkpoint import checkpoints, read_state, step_of
from openpali.train.recipe import load_recipe, read_record
from openpali.weights.family import find_model
from openpali.weights.format import open_model

ALWAYS = 1e-9  # minutes between checkpoints: one after every step


@pytest.fixture(autouse=True)
def _report_every_second_step(monkeypatch) -> None:
    monkeypatch.setattr(trainer_module, "LOG_EVERY", 2)


@pytest.fixture
def mine(tmp_path: Path) -> dict[str, Any]:
    """An evaluation on five images of our own."""
    folder = tmp_path / "mine"
    folder.mkdir()
    lines = []
    for number in range(5):
        Image.new("RGB", (72, 72), (40 * number, 0, 99)).save(folder / f"{number}.png")
        lines.append({"images": [f"{number}.png"], "captions": {"en": ["red" * (number + 1)]}})
    (folder / "held-out.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"name": "mine", "source": str(folder / "held-out.jsonl"), "task": "caption", "every": 8}


@pytest.fixture
def scripted(monkeypatch) -> list[float]:
    """Values that take the place of the scores ``cider`` of an evaluation, in order."""
    values: list[float] = []
    original = evals_module.Evaluations._scores

    def scores(self, evaluation, step):
        n, found = original(self, evaluation, step)
        return n, {**found, "cider": values[step_number(step)]}

    def step_number(step) -> int:
        return len(values) - 1 if not hasattr(step, "at") else step.at

    monkeypatch.setattr(evals_module.Evaluations, "_scores", scores)
    return values


def evaluations_of(run: Path) -> list[dict[str, Any]]:
    return [row for row in metrics_of(run) if "eval" in row]


CASES = {
    "sequence": ("sequence", {"model__dropout": 0.1, "micro": 2}),
    "average": ("sequence", {"ema": 0.5, "model__frozen": ["vit"]}),
    "memory": ("sequence", {"parallel": {"checkpointing": "selective"}, "precision": "bf16"}),
    "siglip": ("siglip", {"evals": [{"benchmark": "nano/retrieval", "every": 8, "limit": 8}]}),
}


@pytest.mark.parametrize("case", CASES)
def test_evaluations_change_nothing_of_a_run(case, make_trainer, tmp_path, mine) -> None:
    objective, changes = CASES[case]
    evals = changes.get("evals", [mine, {"benchmark": "nano/vqa", "every": 12, "limit": 3}])
    plain = make_recipe(objective, **{key: value for key, value in changes.items() if key != "evals"})
    make_trainer(plain, "plain").train()
    name = evals[0].get("name", evals[0].get("benchmark"))
    trainer = make_trainer(make_recipe(objective, **{**changes, "evals": evals, "keep_best": name}), "evaluated")
    modes = {module: module.training for module in trainer.model.modules()}
    trainer.train()
    assert {module: module.training for module in trainer.model.modules()} == modes
    ours, theirs = tensors_of(tmp_path / "evaluated"), tensors_of(tmp_path / "plain")
    assert ours.keys() == theirs.keys()
    assert [key for key in theirs if not torch.equal(ours[key], theirs[key])] == []
    assert [row for row in metrics_of(tmp_path / "evaluated") if "eval" not in row] == metrics_of(
        tmp_path / "plain"
    )
    exported, expected = (open_model(tmp_path / run / "model").weights() for run in ("evaluated", "plain"))
    assert [key for key in expected if not torch.equal(exported[key], expected[key])] == []
    assert {row["eval"] for row in evaluations_of(tmp_path / "evaluated")} == {
        spec.get("name", spec.get("benchmark")) for spec in evals
    }


def test_torchs_random_state_stays(make_trainer, mine) -> None:
    trainer = make_trainer(make_recipe(evals=[mine], phases__0__samples=4))
    trainer.train()
    before = torch.get_rng_state()
    trainer.evaluations.run(lambda every: True, trainer.train_step, 4, 1, lambda found: None)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_scores_are_those_of_the_exported_model(ema, make_trainer, tmp_path, mine) -> None:
    trainer = make_trainer(make_recipe(evals=[mine], ema=ema))
    trainer.train()
    rows = evaluations_of(tmp_path / "run")
    assert [(row["samples"], row["eval"], row["n"]) for row in rows] == [(at, "mine", 5) for at in (8, 16, 24)]
    [evaluation] = trainer.evaluations.all
    pali = Pali.from_pretrained(tmp_path / "run", dtype="fp32")
    scores: dict[str, float] = {}
    for evaluator in evaluation.evaluators:
        scores |= evaluator.run(pali.pipeline("pali")).scores.summary
    assert rows[-1]["scores"] == pytest.approx(scores, rel=1e-6)
    assert rows[-1]["metric"] == "cider"
    assert rows[0]["scores"]["loss"] > rows[-1]["scores"]["loss"]


def test_a_task_has_the_options_of_training(make_trainer) -> None:
    entry = {"source": "nano/scene", "task": "detect", "task_options": {"bins": 16, "max_names": 3}}
    held_out = {"source": "nano/scene", "task": "detect", "every": 24, "limit": 2, "task_options": {"max_names": 2}}
    recipe = make_recipe(
        phases__0__mixture=[entry],
        max_prompt=96,
        max_target=160,
        evals=[held_out, {"benchmark": "nano/detect", "every": 24}],
    )
    ours, benchmark = make_trainer(recipe).evaluations.all
    for evaluator in (*ours.evaluators, *benchmark.evaluators):
        assert isinstance(evaluator, AnswerEvaluator | LossEvaluator)
        assert evaluator.task.bins == 16  # type: ignore[attr-defined]
    assert ours.evaluators[0].task.max_names == 2  # type: ignore[attr-defined]
    assert ours.name == "detect@nano/scene"
    assert benchmark.name == "nano/detect"
