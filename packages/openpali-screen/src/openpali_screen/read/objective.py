"""``read``: recognition of lines of text, by CTC."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from openpali.data.pipeline.encode import Batch, Encoder
from openpali.tasks.registry import Tools
from openpali.text.characters import CHARACTERS
from openpali.train.evaluation import Evaluation, of_pages
from openpali.train.objectives.base import Lengths, Losses, Objective, blank_images
from openpali.train.recipe import EvalSpec, PageRecipe, PhaseSpec, Recipe
from openpali.train.shapes import shape_of
from openpali_screen.read.encode import ReadingEncoder
from openpali_screen.read.evaluate import ReadingEvaluator
from openpali_screen.read.network import ReaderConfig, best_path, placing_loss, reading_loss
from openpali_screen.views import CELL, PATCH, WIDTHS

_GROUPS = 3  # of the lines of a batch, by width: padding costs time
_OF_LINES = ("lines", "columns", "characters", "places")


class ReadRecipe(PageRecipe):
    """Lines of text that are found: what they say. Its entries have ``lines`` or ``text``.

    A phase's ``size`` is the height at which lines are read, and the widest line.

    Attributes:
        pieces: lines of a page in a sample.
        placing: weight of the loss that asks for each character near its place. CTC alone begins with a long
            plateau; later this loss stands in the way of double letters.
        placing_until: share of the run after which that loss ends.
    """

    pieces: int = Field(8, gt=0)
    placing: float = Field(1.0, ge=0)
    placing_until: float = Field(1.0, gt=0, le=1)

    def problems(self) -> Iterator[str]:
        if self.parallel.shard != "none":  # the lines of a rank decide how often it calls the model
            yield (
                f'parallel.shard = "{self.parallel.shard}" makes ranks call the model together, and those of '
                'objective = "read" do not: set parallel.shard = "none"'
            )
        for number, phase in enumerate(self.phases):
            if phase.pixels.width % WIDTHS:
                yield f"phases.{number}.size = {phase.size}: the widest line is a multiple of {WIDTHS} pixels"


class ReadObjective(Objective[ReadRecipe]):
    """A character for every column, by CTC."""

    recipe_class: ClassVar[type[Recipe]] = ReadRecipe
    _placing = 0.0  # weight of the loss of places in this step

    def configure(self) -> ReaderConfig:
        shape: ReaderConfig = shape_of(self.recipe, "reader")
        height = shape.vision.grid[0] * PATCH
        for number, phase in enumerate(self.recipe.phases):
            if phase.pixels.height != height:
                raise ValueError(
                    f"phases.{number}.size = {phase.size}: a reader sees lines of {height} pixels: set "
                    f'"{height}x{phase.pixels.width}"'
                )
        return dataclasses.replace(shape, characters=shape.characters or CHARACTERS)

    def make_encoder(self) -> Encoder:
        return ReadingEncoder(self.recipe.pieces, self.config.steps, characters=self.config.characters)

    def begin_step(self, number: int) -> None:
        recipe = self.recipe
        self._placing = recipe.placing if number * recipe.batch < recipe.placing_until * recipe.samples else 0.0

    def losses(self, batch: Batch, total_weight: float) -> Losses:
        order = batch["columns"].argsort()
        groups = [self._lines({key: batch[key][some] for key in _OF_LINES}) for some in order.chunk(_GROUPS)]
        lines, placed, misread = (torch.cat(values) for values in zip(*groups, strict=True))
        rows = batch["row"][order]
        count = rows.bincount()
        per_row = lines.new_zeros(len(count)).index_add_(0, rows, lines.detach()) / count
        extra = {"misread": misread.float().mean(), "misplaced": placed.detach().mean()}
        return Losses((lines + self._placing * placed).sum() / total_weight, per_row, extra)

    def _lines(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Of lines of like width: what reading and placing costs, and which are misread; each ``[R]``."""
        characters, columns = batch["characters"], batch["columns"]
        widest = -(-int(columns.max()) * PATCH // WIDTHS) * WIDTHS
        logits = self.model(batch["lines"][:, :, :widest], columns)
        steps = columns * self.config.steps
        lines = reading_loss(logits, steps, characters) / (characters > 0).sum(1).clamp(min=1)
        placed = placing_loss(logits, batch["places"], characters)
        misread = (best_path(logits.detach(), steps, characters.shape[1]) != characters).any(1)
        return lines, placed, misread

    def example_batch(self, phase: PhaseSpec, rows: int, lengths: Lengths) -> Batch:
        """Every line is as wide as can be."""
        pieces, width = self.recipe.pieces, phase.pixels.width
        lines = blank_images(phase, rows).repeat_interleave(pieces, 0)
        return {
            "lines": lines,
            "columns": torch.full((len(lines),), width // PATCH),
            "characters": torch.ones(len(lines), width // (4 * CELL), dtype=torch.long),
            "places": torch.zeros(len(lines), width // (4 * CELL), dtype=torch.long),
            "row": torch.arange(rows).repeat_interleave(pieces),
        }

    @classmethod
    def open_evaluation(cls, spec: EvalSpec, recipe: ReadRecipe, tools: Tools) -> Evaluation:
        return of_pages(spec, ReadingEvaluator, "cer")
