"""``find``: detection of lines of text on pages."""

from __future__ import annotations

from typing import ClassVar, cast

import torch

from openpali.data.pipeline.encode import Batch, Encoder
from openpali.tasks.registry import Tools
from openpali.train.evaluation import Evaluation, of_pages
from openpali.train.objectives.base import Lengths, Losses, Objective, blank_images
from openpali.train.recipe import EvalSpec, PageRecipe, PhaseSpec, Recipe
from openpali.train.shapes import shape_of
from openpali_screen.find.encode import FindingEncoder
from openpali_screen.find.evaluate import FindingEvaluator
from openpali_screen.find.network import Cells, FinderConfig, Truth, finding_loss
from openpali_screen.views import CELL


class FindRecipe(PageRecipe):
    """Lines of text on pages: where they are. Its entries have ``lines``."""


class FindObjective(Objective[FindRecipe]):
    """A head on every patch and its cells."""

    recipe_class: ClassVar[type[Recipe]] = FindRecipe

    def configure(self) -> FinderConfig:
        shape: FinderConfig = shape_of(self.recipe, "finder")
        return shape

    def make_encoder(self) -> Encoder:
        return FindingEncoder()

    def losses(self, batch: Batch, total_weight: float) -> Losses:
        cells = cast(Cells, self.model(batch["images"]))
        truth = Truth(batch["text"], batch["up"], batch["down"], batch["weight"])
        rows = finding_loss(cells, truth)
        found, text, free = cells.logits.detach() > 0, truth.text > 0, truth.text == 0
        extra = {
            "missed": (text & ~found).sum() / text.sum().clamp(min=1),
            "false": (free & found).sum() / free.sum().clamp(min=1),
        }
        return Losses(rows.sum() / total_weight, rows.detach(), extra)

    def example_batch(self, phase: PhaseSpec, rows: int, lengths: Lengths) -> Batch:
        cells = torch.zeros(rows, phase.pixels.height // CELL, phase.pixels.width // CELL)
        return {
            "images": blank_images(phase, rows),
            "text": cells.to(torch.int8),
            "up": cells,
            "down": cells,
            "weight": cells + 1,
        }

    @classmethod
    def open_evaluation(cls, spec: EvalSpec, recipe: FindRecipe, tools: Tools) -> Evaluation:
        return of_pages(spec, FindingEvaluator, "f1@0.5")
