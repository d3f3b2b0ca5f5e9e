"""One training step, and the preparation of what it changes.

The trainer, the planner and the training benchmark run this code, so that a plan and a published speed are those of
training. A step is a pure function of weights, optimizer state, batches and the step's number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from openpali.architectures.base import vision_of
from openpali.architectures.registry import architecture_of
from openpali.data.pipeline.encode import Batch
from openpali.distributed import Ranks
from openpali.model.vit import resample_positions, vit_of
from openpali.rng import derive_seed
from openpali.train.adapt import freeze_base
from openpali.train.objectives.base import Losses, Objective
from openpali.train.optim.optimizer import build_optimizer, clip_gradients, freeze, group_parameters, rate_in
from openpali.train.optim.qk_clip import attentions, clip_queries_and_keys
from openpali.train.parallel import place
from openpali.train.recipe import PhaseSpec, Recipe

Stage = Literal["place", "average", "forward", "backward", "fill", "reduce", "update"]
"""Parts of the preparation (``place``, ``average``) and of a step. ``forward`` and ``backward`` alternate over
micro-batches, ``fill`` gives zeros to parameters without gradient, ``reduce`` sums gradients over ranks, and
``update`` is the rest."""

POSITIONS = "vit.positions"


class NotFiniteError(ArithmeticError):
    """The norm of the gradients is NaN or infinite. No weight has been changed; the gradients are useless."""


@dataclass(frozen=True)
class Gradients:
    """Losses and gradient norm of a step."""

    losses: Sequence[Losses]  # of each micro-batch of this rank, detached
    norm: float  # global norm of the gradients before clipping
    reached: frozenset[str]  # names of the parameters that had a gradient on this rank


class TrainStep:
    """The model of an objective with everything that learns. Building it freezes and places the model, in place.

    Args:
        recipe: what is frozen, how the model is placed, the optimizer, the average of the weights.
        objective: model and loss. Set the model's resolution and initial weights first.
        dtype: computing precision, bfloat16 or float32; weights and optimizer state are float32.
        on_stage: called with the name of each :data:`Stage` as it begins; for bookkeeping.

    Attributes:
        learning: parameters that learn, by name.
        average: exponential moving average of them, by name; empty unless the recipe has ``ema``.
    """

    def __init__(
        self,
        recipe: Recipe,
        objective: Objective[Any],
        ranks: Ranks,
        dtype: torch.dtype,
        on_stage: Callable[[Stage], None] = lambda stage: None,
    ) -> None:
        self.recipe, self.objective, self.model = recipe, objective, objective.model
        self.ranks, self.dtype, self.on_stage = ranks, dtype, on_stage
        _freeze(self.model, recipe, dtype)
        self.clipped = _clipped(self.model, recipe)
        on_stage("place")
        place(self.model, recipe.parallel, ranks, dtype)
        self.learning = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.optimizer = build_optimizer(self.model, recipe.optimizer, dtype)
        self.schedules = recipe.schedules
        on_stage("average")
        learning = self.learning if recipe.ema else {}
        self.average: dict[str, Tensor] = {name: p.detach().clone() for name, p in learning.items()}

    def run(self, batches: Sequence[Batch], weight: float, number: int = 0) -> Gradients:
        """One step on this rank's micro-batches. Collective.

        Args:
            batches: micro-batches on any device.
            weight: of the global batch: the sum of ``objective.weight`` over the micro-batches of all ranks.
            number: of the step, from 0: it decides the learning rate and the dropout mask.

        Raises:
            NotFiniteError: on all ranks.
        """
        factor = rate_in(self.schedules, self.recipe.optimizer.lr, number * self.recipe.batch)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        losses = self.backward(batches, weight, number)
        gradients = self._reduce(losses)
        if not math.isfinite(gradients.norm):
            raise NotFiniteError(f"the norm of the gradients is {gradients.norm}")
        self._update()
        return gradients

    def backward(self, batches: Sequence[Batch], weight: float, number: int = 0) -> list[Losses]:
        """Add this rank's gradients of the micro-batches to ``.grad``; returns their losses, detached."""
        self.objective.begin_step(number)
        torch.manual_seed(derive_seed(self.recipe.seed, "step", number, self.ranks.rank))
        device, detached = self.ranks.device, []
        for batch in batches:
            self.on_stage("forward")
            moved = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
            with torch.autocast(device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
                losses = self.objective.losses(moved, weight)
            self.on_stage("backward")
            torch.autograd.backward(losses.total)
            detached.append(replace(losses, total=losses.total.detach()))
        return detached

    def zero_gradients(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)

    def _reduce(self, losses: Sequence[Losses]) -> Gradients:
        """Sum gradients over ranks, then clip their global norm."""
        self.on_stage("fill")
        reached = frozenset(name for name, p in self.learning.items() if p.grad is not None)
        learning = list(self.learning.values())
        for parameter in learning:  # the ViT in a step without images: one rank must do what several ranks do
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.on_stage("reduce")
        self.ranks.sum_gradients([p for p in learning if not isinstance(p, DTensor)])
        self.on_stage("update")
        norm = clip_gradients(learning, self.recipe.optimizer.clip)
        # the only value that the host waits for: whether weights may change; the GPU is still clipping then
        return Gradients(losses, float(norm), reached)

    def _update(self) -> None:
        recipe = self.recipe
        self.optimizer.step()
        clip_queries_and_keys(self.clipped, recipe.optimizer.qk_clip)
        self.zero_gradients()
        for name, average in self.average.items():
            average.lerp_(self.learning[name].detach(), 1 - recipe.ema)

    def change_resolution(self, phase: PhaseSpec) -> None:
        """Take images of this phase from now on: resamples the position embeddings of the ViT to its size.

        Optimizer and average follow; the moments of this one parameter start anew.
        """
        vit = vit_of(self.model)
        if vit is None:
            return
        old, grid = vit.positions, vit.config.grid
        set_resolution(self.model, [phase])
        if old is None or vit.positions is None or vit.positions is old:
            return
        if POSITIONS in self.learning:
            self.learning[POSITIONS] = vit.positions
        if POSITIONS in self.average:
            self.average[POSITIONS] = resample_positions(self.average[POSITIONS], grid, vit.config.grid)
        self.optimizer.state.pop(old, None)
        for group in self.optimizer.param_groups:
            group["params"] = [vit.positions if p is old else p for p in group["params"]]


def describe_learning(recipe: Recipe, objective: Objective[Any]) -> Iterator[str]:
    """A line of text about what learns, and one about what is frozen, with numbers of parameters.

    The model, on the meta device for example, is frozen as in training, in place.
    """
    check_sizes(recipe, objective)
    model = objective.model
    _freeze(model, recipe, torch.float32)
    _clipped(model, recipe)
    group_parameters(model, recipe.optimizer)
    steps = recipe.samples // recipe.batch
    if recipe.ema and steps < 1 / (1 - recipe.ema):
        yield (
            f"ema = {recipe.ema} averages over some {1 / (1 - recipe.ema):,.0f} steps, and the run has {steps:,}: "
            "the exported model is near its initial weights; lower ema"
        )
    for kind, learns in (("learns", True), ("frozen", False)):
        parts: Counter[str] = Counter()
        for name, tensor, count in weights_of(model):
            if tensor.requires_grad == learns:
                parts[name.partition(".")[0]] += count
        if parts:
            of_parts = ", ".join(f"{part} {count:,}" for part, count in parts.items())
            yield f"{kind}: {parts.total():,} parameters ({of_parts})"


def weights_of(model: nn.Module) -> Iterator[tuple[str, Tensor, int]]:
    """Name, tensor and number of weights of each parameter, and of each buffer with quantized weights."""
    held = {torch.int8: 1, torch.uint8: 2}  # weights in a byte; int4 is held as uint8
    for name, parameter in model.named_parameters():
        yield name, parameter, parameter.numel()
    for name, buffer in model.named_buffers():
        if buffer.dtype in held:
            yield name, buffer, buffer.numel() * held[buffer.dtype]


def _freeze(model: nn.Module, recipe: Recipe, dtype: torch.dtype) -> None:
    freeze(model, recipe.model.frozen)
    if recipe.model.lora.rank:
        freeze_base(model, dtype)


def _clipped(model: nn.Module, recipe: Recipe) -> list[nn.Module]:
    """The layers whose queries and keys are clipped after each step."""
    return attentions(model) if recipe.optimizer.qk_clip else []


def check_sizes(recipe: Recipe, objective: Objective[Any]) -> None:
    """Check the image size of every phase."""
    vision = vision_of(objective.config)
    if vision is None:
        return
    patch, pool = vision.patch_size, architecture_of(objective.config).pool(objective.config)
    for number, phase in enumerate(recipe.phases):
        if not phase.tokens and any(side % (pool * patch) for side in phase.pixels):
            size = f"the patch size {patch}" if pool == 1 else f"{pool} patches of {patch}"
            raise ValueError(f"phases.{number}.size = {phase.size} is not a multiple of {size}")


def set_resolution(model: nn.Module, phases: Sequence[PhaseSpec]) -> None:
    """Resample the ViT's position embeddings for the images of each phase, one after the other, where they do not
    fit: their grid depends on the phases before."""
    vit = vit_of(model)
    if vit is None:
        return
    for phase in phases:
        shape = phase.at_resolution(vit.config)
        if vit.config.grid != shape.grid:
            vit.set_grid(shape.grid)
        vit.config = shape
