"""The study of the encoder's losses: arms differ in nothing else, each recipe runs, and the study is planned."""

from __future__ import annotations

from pathlib import Path

import pytest

from openpali.distributed import ALONE
from openpali.eval.registry import find_benchmark
from openpali.train.load import parse_recipe
from openpali.train.trainer import Trainer
from openpali.weights.bundle import open_tokenizer
from openpali_lab.plan.planner import make_plan
from openpali_lab.study.runs import Plan, plan_study
from openpali_lab.study.spec import load_study

RECIPES = Path(__file__).parents[3] / "recipes" / "study"
LOSSES = {"softmax", "regions", "dense", "sides"}


@pytest.fixture(autouse=True)
def _home(world_with_vocabulary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENPALI_HOME", str(world_with_vocabulary))


def opened() -> Plan:
    return plan_study(load_study(RECIPES / "encoders.toml"), RECIPES)


def test_arms_differ_in_their_losses_alone() -> None:
    plan = opened()
    encoders = {job.arm: plan.runs[job.runs[0]].recipe for job in plan.jobs if job.seed == 1}
    assert len(encoders) == 5
    learned = {arm: recipe.model_dump(exclude={"name", *LOSSES}) for arm, recipe in encoders.items()}
    assert all(each == learned["siglip"] for each in learned.values())
    losses = {str(recipe.model_dump(include=LOSSES)) for recipe in encoders.values()}
    assert len(losses) == len(encoders)
    ends = [plan.runs[job.model].recipe.model_dump(exclude={"name", "seed", "model"}) for job in plan.jobs]
    assert all(end == ends[0] for end in ends)


def test_encoders_are_trained(world_with_vocabulary: Path) -> None:
    """A step; "sides" has all losses of those before."""
    plan, tokenizer = opened(), open_tokenizer("nano-vocabulary")
    names = [f"encoders/nano-1/siglip{loss}" for loss in ("", "-sides", "-softmax")]
    for name in names:
        raw = plan.runs[name].recipe.model_dump()
        raw |= {"batch": 4, "workers": 0}
        raw["model"] |= {"preset": "pico", "tokenizer": "nano-vocabulary"}
        raw["optimizer"] |= {"warmup": 0, "cooldown": 0}
        for phase in raw["phases"]:
            phase["samples"] = 4
        trainer = Trainer(parse_recipe(raw), world_with_vocabulary / "runs" / name, ALONE, tokenizer)
        trainer.train()
        assert trainer.bad == 0


def test_the_study_is_planned(openpali, monkeypatch) -> None:
    made: list[object] = []

    def make_once(*arguments: object) -> object:
        made.append(made[0] if made else make_plan(*arguments))
        return made[-1]

    monkeypatch.setattr("openpali_lab.plan.planner.make_plan", make_once)
    small = [
        'sizes={pico=["model.preset=pico"]}',
        "seeds=[1]",
        "arms.dense.seeds=[1]",
        "batch=64",
        "phases.0.size=72",
    ]
    printed = openpali("plan", RECIPES / "encoders.toml", *small)
    assert "1 x siglip-sides, pico:" in printed
    assert "5 x pali, pico:" in printed


def test_columns_have_benchmarks() -> None:
    study = load_study(RECIPES / "encoders.toml")
    asked = {column.benchmark for column in study.columns if column.benchmark}
    assert all(find_benchmark(name) for name in asked)
    assert asked >= {f"nano/{name}" for name in ("places", "letters", "relations", "refseg", "detect", "caption")}
