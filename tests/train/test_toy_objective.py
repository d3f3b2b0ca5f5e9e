"""A new objective is one file and one line of registration; then it trains, is planned and is explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import Field

from openpali.architectures.classifier import ClassifierConfig
from openpali.cli.main import main
from openpali.data.media.images import Preprocess
from openpali.data.pipeline.encode import Arrays, Batch, Encoder, first_image
from openpali.model.vit import Classifier
from openpali.tasks.base import Task
from openpali.tasks.example import Example
from openpali.train.load import load_recipe
from openpali.train.objectives.base import Lengths, Losses, Objective, blank_images
from openpali.train.objectives.registry import objectives
from openpali.train.recipe import PhaseSpec, Recipe
from openpali.train.shapes import shape_of
from openpali.weights.format import open_model
from openpali_lab.documents.recipe_page import render
from openpali_lab.plan.planner import find_device, make_plan

RECIPE = """
name = "t/turned"
objective = "turned"
turns = 2
batch = 8
workers = 0
precision = "fp32"
[model]
preset = "pico"
tokenizer = "nano-vocabulary"
[optimizer]
lr = 1e-3
schedule = "constant"
[[phases]]
samples = 24
size = 72
[[phases.mixture]]
source = "nano/single"
task = "caption"
"""


class TurnedRecipe(Recipe):
    """How far images are turned, which needs no labels.

    Attributes:
        turns: how many quarter turns there are, the upright image included.
    """

    turns: int = Field(4, ge=2, le=4)


class TurnedEncoder:
    """``images [B, H, W, 3]`` uint8 and ``turns [B]``."""

    def __init__(self, turns: int) -> None:
        self.turns = turns

    def encode(self, example: Example, task: Task, preprocess: Preprocess, rng: np.random.Generator) -> Arrays:
        turned = int(rng.integers(self.turns))
        image = np.rot90(preprocess(first_image(example)), turned).copy()
        return {"images": image, "turns": np.array(turned)}

    def collate(self, samples: Sequence[Arrays]) -> Batch:
        return {key: torch.from_numpy(np.stack([s[key] for s in samples])) for key in ("images", "turns")}


class TurnedObjective(Objective[TurnedRecipe]):
    """Which turn an image has had, by cross-entropy."""

    recipe_class: ClassVar[type[Recipe]] = TurnedRecipe

    def configure(self) -> ClassifierConfig:
        labels = tuple(f"{90 * turned} degrees" for turned in range(self.recipe.turns))
        return ClassifierConfig(shape_of(self.recipe, "siglip").vision, labels)

    def make_encoder(self) -> Encoder:
        return TurnedEncoder(self.recipe.turns)

    def losses(self, batch: Batch, total_weight: float) -> Losses:
        rows = F.cross_entropy(cast(Classifier, self.model)(batch["images"]), batch["turns"], reduction="none")
        return Losses(rows.sum() / total_weight, rows.detach())

    def example_batch(self, phase: PhaseSpec, rows: int, lengths: Lengths) -> Batch:
        return {"images": blank_images(phase, rows), "turns": torch.zeros(rows, dtype=torch.long)}

    def explain(self, first: Callable[[], Batch], rows: int) -> list[str]:
        return [f"turns: {first()['turns'][:rows].tolist()}"]


@pytest.fixture(autouse=True)
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(objectives(), "turned", TurnedObjective)  # the one line
    path = tmp_path / "turned.toml"
    path.write_text(RECIPE)
    return path


def test_it_trains_and_writes_its_model(recipe: Path, make_trainer) -> None:
    folder = make_trainer(load_recipe(recipe)).train()
    found = open_model(folder)
    assert found.config.labels == ("0 degrees", "90 degrees")
    assert found.facts.recipe["turns"] == 2


def test_it_is_planned(recipe: Path) -> None:
    plan = make_plan(load_recipe(recipe, ["micro=2"]), find_device("h100", 2), 2)
    assert plan.fits
    assert [(phase.steps, phase.costs.rows) for phase in plan.phases] == [(3, 2)]
    assert plan.phases[0].costs.flops > 0


def test_it_is_explained(recipe: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["openpali", "explain", str(recipe), "--rows", "3"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert "turns = 2" in shown
    assert "learns: " in shown
    assert shown.splitlines()[-1].startswith("turns: [")


def test_its_keys_are_checked_and_documented(recipe: Path) -> None:
    for override, named in (
        ("turns=5", "turns = 5"),
        ('objective="classify"', "turns is for"),
    ):
        with pytest.raises(ValueError, match=named):
            load_recipe(recipe, [override])
    assert '`objective = "turned"`' in render()
