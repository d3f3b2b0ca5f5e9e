"""``elements``: detection of elements on screens, by role."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, cast

import torch

from openpali.data.pipeline.encode import Batch, Encoder
from openpali.tasks.registry import Tools
from openpali.train.evaluation import Evaluation, of_pages
from openpali.train.objectives.base import Lengths, Losses, Objective
from openpali.train.recipe import EvalSpec, PageRecipe, PhaseSpec, Recipe
from openpali.train.shapes import shape_of
from openpali_screen.elements.encode import ROLES, ElementEncoder
from openpali_screen.elements.evaluate import ElementEvaluator
from openpali_screen.elements.network import ElementFinderConfig, Found, element_loss
from openpali_screen.elements.proposals import MOST, VIEWS


class ElementRecipe(PageRecipe):
    """What one can point at on screens: where it is. Its entries have ``lines`` and ``objects``; the ``size`` of
    its phases is that of a view of a proposal."""


class ElementObjective(Objective[ElementRecipe]):
    """What the proposals of a screen are."""

    recipe_class: ClassVar[type[Recipe]] = ElementRecipe

    def configure(self) -> ElementFinderConfig:
        shape: ElementFinderConfig = shape_of(self.recipe, "elements")
        sizes = {(phase.pixels.height, phase.pixels.width) for phase in self.recipe.phases}
        if sizes != {(shape.side, shape.side)}:
            raise ValueError(f"a finder of elements sees proposals in {shape.side} pixels: set size = {shape.side}")
        return shape if shape.roles else dataclasses.replace(shape, roles=ROLES)

    def make_encoder(self) -> Encoder:
        return ElementEncoder(self.config.side, self.config.roles)

    def losses(self, batch: Batch, total_weight: float) -> Losses:
        inputs = (batch[name] for name in ("views", "kinds", "boxes", "counts", "sizes"))
        found, here = cast(Found, self.model(*inputs)), batch["which"] > 0
        rows = element_loss(found, batch["boxes"], batch["counts"], batch["which"], batch["elements"])
        positive = found.logits.detach() > 0
        extra = {
            "missed": (here & ~positive).sum() / here.sum().clamp(min=1),
            "false": (positive & ~here).sum() / positive.sum().clamp(min=1),
        }
        return Losses(rows.sum() / total_weight, rows.detach(), extra)

    def example_batch(self, phase: PhaseSpec, rows: int, lengths: Lengths) -> Batch:
        count, side, roles = rows * MOST, self.config.side, len(self.config.roles)
        boxes = torch.tensor([0.0, 0.0, 16.0, 16.0]).repeat(count, 1)
        return {
            "counts": torch.full((rows,), MOST),
            "sizes": torch.full((rows, 2), 1000.0),
            "views": torch.zeros(count, VIEWS, side, side, 3, dtype=torch.uint8),
            "kinds": torch.zeros(count, dtype=torch.long),
            "boxes": boxes,
            "which": torch.zeros(count, roles, dtype=torch.long),
            "elements": boxes[:rows],
        }

    @classmethod
    def open_evaluation(cls, spec: EvalSpec, recipe: ElementRecipe, tools: Tools) -> Evaluation:
        return of_pages(spec, ElementEvaluator, "f1@0.5")
