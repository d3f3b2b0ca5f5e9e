"""What an objective is: a class of recipes, a model, the encoder of its samples, the loss of a batch, and more.

An objective does not know about ranks or gradient accumulation: it returns its part of a loss that the caller sums.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from openpali.data.pipeline.encode import Batch, Encoder
from openpali.infer.pipeline import EmbeddingPipeline, Pipeline
from openpali.model.vit import ViTConfig
from openpali.tasks.example import FRAMES
from openpali.tasks.registry import Tools, find_family
from openpali.text.tokenizer import Tokenizer
from openpali.train.adapt import build_adaptable
from openpali.train.evaluation import Evaluation
from openpali.train.recipe import EvalSpec, PhaseSpec, Recipe

R = TypeVar("R", bound=Recipe)


@dataclass
class Losses:
    """The loss of a batch."""

    total: Tensor  # the batch's part of the global loss, a scalar to call backward on
    per_row: Tensor  # a loss of each row [B], detached; reported per source
    # further values to report: scalars, detached, on their device; NaN is not reported. (Reading them here would
    # make the CPU wait for the GPU before the backward pass.)
    extra: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Lengths:
    """Tokens of prompt and target, and frames of a video, of every row; None is the recipe's maximum."""

    prompt: int | None = None
    target: int | None = None
    frames: int | None = None


class Objective(ABC, Generic[R]):
    """A model with its loss. Every subclass is a line of `train/objectives/registry.py`.

    Args:
        labels: reads the class names of the run's samples.

    Attributes:
        recipe_class: the keys of its recipes.
    """

    recipe_class: ClassVar[type[Recipe]]

    def __init__(self, recipe: R, tokenizer: Tokenizer, labels: Callable[[], Sequence[str]]) -> None:
        self.recipe, self.tokenizer, self.labels = recipe, tokenizer, labels
        self.config = self.configure()
        self.model: nn.Module = build_adaptable(self.config, recipe)
        self.encoder = self.make_encoder()

    # ---- what each objective has

    @abstractmethod
    def configure(self) -> Any:
        """The shape of the model. Called before there is a model."""

    @abstractmethod
    def make_encoder(self) -> Encoder:
        """The part that runs in the data workers. Called after the model is built."""

    @abstractmethod
    def losses(self, batch: Batch, total_weight: float) -> Losses:
        """Forward pass and loss; ``total_weight`` is what the summed loss is divided by."""

    @abstractmethod
    def example_batch(self, phase: PhaseSpec, rows: int, lengths: Lengths) -> Batch:
        """A batch of the shapes that the encoder makes, for plans: of ``rows`` rows, all of these lengths."""

    # ---- what has a default

    @property
    def classes(self) -> Sequence[str]:
        """What the model tells apart, in the order of its output; empty: it has no classes."""
        return ()

    def begin_step(self, number: int) -> None:
        """Called before the losses of each step, with its number from 0. Collective.

        Called again with the same number, if losses are computed again, it changes nothing.
        """

    def weight(self, batch: Batch) -> float:
        """The batch's part of ``total_weight``, which is the sum over micro-batches and ranks: rows of its first
        tensor."""
        return float(len(next(iter(batch.values()))))

    def logit_width(self, rows: int) -> int:
        """Width of the logits of a batch, by which a plan recognises them; 0: there are none."""
        return 0

    def add_blank_images(self, batch: Batch, phase: PhaseSpec) -> Batch:
        """The batch with dummy images, which change neither loss nor gradients: where any rank has images, all must
        run a sharded ViT, which is collective.
        """
        return batch

    def explain(self, first: Callable[[], Batch], rows: int) -> Sequence[str]:
        """Lines of text about the first batch of a run, with its first ``rows`` samples."""
        return ()

    def evaluated(self, sharded: bool) -> Pipeline | EmbeddingPipeline | nn.Module:
        """What evaluators ask: the model as its folder would be opened, at its present resolution.

        Args:
            sharded: all ranks ask about the same samples.
        """
        return self.model

    def facts(self) -> Mapping[str, Any]:
        """What the exported model records beside that of every run: some of its ``Facts``."""
        return {}

    @classmethod
    def vocabulary(cls, recipe: R) -> int:
        """Ids of the tokenizer that the preset is made for, to plan without a tokenizer; 0: it needs none."""
        return 0

    @classmethod
    def open_evaluation(cls, spec: EvalSpec, recipe: R, tools: Tools) -> Evaluation:
        """Open the data of one of the recipe's ``evals``."""
        raise ValueError(f"no evaluation is for objective = {recipe.objective!r}: remove [[evals]]")


def blank_images(phase: PhaseSpec, *shape: int) -> Tensor:
    """Images of a phase, ``[*shape, H, W, 3]`` uint8, for :meth:`Objective.example_batch`."""
    return torch.zeros(*shape, *phase.pixels, 3, dtype=torch.uint8)


def blank_in_batch(phase: PhaseSpec, vision: ViTConfig, *shape: int) -> Batch:
    """``images`` of a phase, as :func:`blank_images`; in their own proportions with their ``grids [*shape, 2]``.

    Those have all patches of the budget, in one row: all grids cost the same.
    """
    if not phase.tokens:
        return {"images": blank_images(phase, *shape)}
    patches = torch.zeros(*shape, phase.tokens, 3 * vision.patch_size**2, dtype=torch.uint8)
    return {"images": patches, "grids": torch.tensor([1, phase.tokens]).repeat(*shape, 1)}


def frames_of(phase: PhaseSpec, lengths: Lengths) -> int:
    """Images per row: of the longest kind in the mixture, to which all rows are padded."""
    families = {line.task: find_family(line.task) for line in phase.mixture if line.task}
    if not families:
        return 1
    videos = [line.options.get("frames", FRAMES) for line in phase.mixture if families[line.task].video]
    if videos:
        return lengths.frames or max(videos)
    return int(any("images" in family.needs for family in families.values()))
