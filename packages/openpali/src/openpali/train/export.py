"""Export of a run: unsharded weights, and the model folder at its end."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openpali.architectures.facts import Facts
from openpali.distributed import Ranks
from openpali.model.lora import lora_names
from openpali.model.vit import vit_of
from openpali.text.tokenizer import Tokenizer
from openpali.train.adapt import adapter_of
from openpali.train.parallel import whole
from openpali.train.phases import dialect_of, task_options
from openpali.train.recipe import PromptedRecipe, Recipe
from openpali.train.step import TrainStep
from openpali.weights.write import write_model


def gather_weights(tensors: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """Unsharded tensors on the CPU of rank 0, by name; other ranks get none. Collective."""
    gathered: dict[str, Tensor] = {}
    for name, value in tensors.items():
        complete = whole(value)
        if ranks.rank == 0:
            gathered[name] = complete.cpu()
    return gathered


def current_config(step: TrainStep) -> Any:
    """The configuration of the model at its present resolution."""
    vit, config = vit_of(step.model), step.objective.config
    return config if vit is None else dataclasses.replace(config, vision=vit.config)


@contextmanager
def averaged(step: TrainStep) -> Iterator[None]:
    """Give the model its averaged weights within the block, if there are any; then its own again, bit for bit."""
    _swap_average(step)
    try:
        yield
    finally:
        _swap_average(step)


@torch.no_grad()
def _swap_average(step: TrainStep) -> None:
    for name, average in step.average.items():
        kept = average.clone()
        average.copy_(step.learning[name])
        step.learning[name].copy_(kept)


def export_model(
    folder: Path, step: TrainStep, recipe: Recipe, samples: int, tokenizer: Tokenizer, base: str
) -> None:
    """Write the model folder of a run on rank 0, with averaged weights if the recipe has ``ema``. Collective.

    With ``model.lora`` it holds the adapter alone; ``base`` is the fingerprint of what that changes.
    """
    changes = lora_names(step.model)
    own = {name: value for name, value in step.model.state_dict().items() if not changes or name in changes}
    weights = gather_weights({**own, **step.average}, step.ranks)
    if step.ranks.rank:
        return
    vit = vit_of(step.model)
    write_model(
        folder,
        adapter_of(step.model, recipe, weights) if changes else weights,
        current_config(step),
        preprocess=None if vit is None else recipe.model.preprocess_for(vit.config),
        tokenizer=tokenizer,
        facts=Facts(
            run=recipe.name,
            samples=samples,
            max_prompt=recipe.max_prompt if isinstance(recipe, PromptedRecipe) else None,
            dialect=dialect_of(recipe).name,
            tasks=task_options(recipe),
            recipe=recipe.model_dump(mode="json"),
            base_fingerprint=base,
            **step.objective.facts(),
        ),
    )
