"""``elements``: what one can point at on screens, by role: where it is."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, cast

import torch
from pydantic import Field

from openpali.data.pipeline.elements import ROLES, ElementEncoder
from openpali.data.pipeline.encode import Batch, Encoder
from openpali.eval.elements import ElementEvaluator
from openpali.model.elements import ElementCells, ElementFinderConfig, element_loss
from openpali.model.pages import CELL
from openpali.tasks.registry import Tools
from openpali.train.evaluation import Evaluation, of_pages
from openpali.train.objectives.base import Lengths, Losses, Objective, blank_images
from openpali.train.recipe import BenchmarkEvalSpec, EvaluatedRecipe, PageEvalSpec, PhaseSpec, Recipe
from openpali.train.shapes import shape_of


class ElementRecipe(EvaluatedRecipe):
    """What one can point at on screens: where it is. Its entries have ``objects``, and the task ``ocr``.

    Attributes:
        crops: parts of a window in a sample.
    """

    crops: int = Field(4, gt=0)
    parts: ClassVar[bool] = True
    evals: list[PageEvalSpec] = Field([])


class ElementObjective(Objective[ElementRecipe]):
    """A head on every patch and its cells, for each role."""

    recipe_class: ClassVar[type[Recipe]] = ElementRecipe

    def configure(self) -> ElementFinderConfig:
        shape: ElementFinderConfig = shape_of(self.recipe, "elements")
        return shape if shape.roles else dataclasses.replace(shape, roles=ROLES)

    def make_encoder(self) -> Encoder:
        return ElementEncoder(self.config.roles, self.recipe.crops)

    def losses(self, batch: Batch, total_weight: float) -> Losses:
        cells, here = cast(ElementCells, self.model(batch["images"])), batch["which"] > 0
        rows = element_loss(cells, batch["which"], batch["boxes"])
        found = cells.logits.detach() > 0
        extra = {
            "missed": (here & ~found).sum() / here.sum(),
            "false": (found & (batch["which"] == 0)).sum() / found.sum().clamp(min=1),
        }
        per_row = rows.detach().view(-1, self.recipe.crops).mean(1)
        return Losses(rows.sum() / total_weight, per_row, extra)

    def example_batch(self, phase: PhaseSpec, rows: int, lengths: Lengths) -> Batch:
        cells = phase.pixels.height // CELL, phase.pixels.width // CELL
        parts = rows * self.recipe.crops
        which = torch.zeros(parts, len(self.config.roles), *cells, dtype=torch.int16)
        return {"images": blank_images(phase, parts), "which": which, "boxes": torch.zeros(parts, 1, 4)}

    @classmethod
    def open_evaluation(cls, spec: BenchmarkEvalSpec, recipe: ElementRecipe, tools: Tools) -> Evaluation:
        return of_pages(spec, ElementEvaluator, "f1@0.5")
