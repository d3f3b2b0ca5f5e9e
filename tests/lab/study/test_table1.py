"""The committed studies: both arms differ in the objective alone, and each recipe runs, shortened."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from openpali.data.sources.registry import open_source
from openpali.distributed import ALONE
from openpali.eval.registry import find_benchmark
from openpali.train.load import load_recipe, parse_recipe
from openpali.train.objectives.sequence import SequenceRecipe
from openpali.train.recipe import Recipe
from openpali.train.trainer import Trainer
from openpali.weights.bundle import open_tokenizer
from openpali_lab.plan.planner import make_plan
from openpali_lab.study.runs import Plan, plan_study
from openpali_lab.study.spec import Study, load_study

RECIPES = Path(__file__).parents[3] / "recipes" / "study"


@pytest.fixture(autouse=True)
def _home(world_with_vocabulary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENPALI_HOME", str(world_with_vocabulary))


def opened(name: str) -> tuple[Study, Plan]:
    study = load_study(RECIPES / name)
    return study, plan_study(study, RECIPES)


@pytest.mark.parametrize("name", ["table1.toml", "table1-5b.toml"])
def test_both_arms_see_the_same_images_with_the_same_budget(name: str) -> None:
    study, plan = opened(name)
    arms: dict[tuple[str, int], list[Recipe]] = {}
    for job in plan.jobs:
        if job.arm in (study.baseline, study.compared):
            arms.setdefault((job.size, job.seed), []).append(plan.runs[job.runs[0]].recipe)
    for recipes in arms.values():
        assert {recipe.objective for recipe in recipes} == {"classify", "siglip"}
        budgets = [
            (
                recipe.seed,
                recipe.batch,
                recipe.model.preset,
                recipe.optimizer.model_copy(update={"lr_scale": {}}),
                [
                    (phase.samples, phase.size, [(e.source, e.options, e.weight) for e in phase.mixture])
                    for phase in recipe.phases
                ],
            )
            for recipe in recipes
        ]
        assert all(budget == budgets[0] for budget in budgets)
    ends = [plan.runs[job.model].recipe for job in plan.jobs]
    assert all(recipe.model.frozen == ["vit"] for recipe in ends)
    assert len({(recipe.samples, str(recipe.phases)) for recipe in ends}) == 1
    whole = {"table1.toml": "nano/1_multimodal.toml", "table1-5b.toml": "5b/1_multimodal.toml"}[name]
    assert 5 * ends[0].samples == load_recipe(RECIPES.parent / whole).samples


def test_each_recipe_runs(world_with_vocabulary: Path) -> None:
    _, plan = opened("table1.toml")
    tokenizer, made = open_tokenizer("nano-vocabulary"), "table1/nano-1/siglip"
    for name in ("table1/masks", "table1/nano-1/classify", made, f"{made}+pali"):
        raw = plan.runs[name].recipe.model_dump()
        raw |= {"batch": 4, "micro": 1, "workers": 0, "keep_every": 0}
        raw["model"] |= {"preset": "pico", "tokenizer": "nano-vocabulary"}
        raw["optimizer"] |= {"warmup": 0, "cooldown": 0}
        for phase in raw["phases"]:
            phase["samples"] = 4
        if "max_prompt" in raw:  # the stand-in vocabulary has fewer words, so that texts have more tokens
            raw |= {"max_prompt": 160, "max_target": 160}
            raw["model"]["init"] = {"vit": made}
        recipe = parse_recipe(raw)
        assert isinstance(recipe, SequenceRecipe) == name.endswith("pali")
        trainer = Trainer(recipe, world_with_vocabulary / "runs" / name, ALONE, tokenizer)
        trainer.train()
        assert trainer.bad == 0


def test_each_expression_is_of_one_kind() -> None:
    study, _ = opened("table1.toml")
    kinds = [column.prompt for column in study.columns if column.benchmark == "nano/refseg"]
    assert len(kinds) == 3
    source = open_source("nano/scene", {"split": "heldout", "expressions": True})
    found = []
    for index in range(60):
        prompt = f"detect: {source[index].expression}"
        found += [number for number, kind in enumerate(kinds) if re.search(kind, prompt)]
        assert len(found) == index + 1, prompt
    assert set(found) == {0, 1, 2}


def test_a_study_is_planned_as_a_whole(openpali, monkeypatch) -> None:
    made: list[object] = []

    def make_once(*arguments: object) -> object:
        made.append(made[0] if made else make_plan(*arguments))
        return made[-1]

    monkeypatch.setattr("openpali_lab.plan.planner.make_plan", make_once)
    small = ['sizes={pico=["model.preset=pico"]}', "batch=64", "phases.0.size=72"]
    printed = openpali("plan", RECIPES / "table1-5b.toml", *small)
    assert "2 x pali, pico:" in printed
    assert "1 x text, pico:" in printed
    assert len(made) == 6 - 1  # both arms have a pali
    assert "the study: 6 runs one after the other, " in printed


def test_a_study_that_extends_another_shares_its_runs() -> None:
    _, plan = opened("table1.toml")
    _, more = opened("table1-why.toml")
    assert all(more.runs[name] == run for name, run in plan.runs.items())
    added = [name for name in more.runs if name not in plan.runs]
    assert len(added) == 8
    assert len(more.jobs) == len(plan.jobs) + 4


def test_coarse_labels_have_each_name_once() -> None:
    _, plan = opened("table1-why.toml")
    (phase, *_) = plan.runs["table1/nano-1/classify-coarse"].recipe.phases
    single, scene, word = (entry.task_options for entry in phase.mixture)
    assert (single["of"], scene["of"], word["label"]) == ("image", "object", "text")
    assert list(single["groups"]) == list(scene["groups"])
    assert all(folder.partition("/")[0] == top for top, own in single["groups"].items() for folder in own)
    assert len({name for names in scene["groups"].values() for name in names}) == 128


def test_columns_have_benchmarks() -> None:
    for name in ("table1.toml", "table1-5b.toml"):
        study, _ = opened(name)
        assert all(find_benchmark(column.benchmark) for column in study.columns if column.benchmark)
        assert {column.paper_name for column in study.columns} >= {"COCO", "XM3600", "VQAv2", "TextVQA", "RefCOCO"}
