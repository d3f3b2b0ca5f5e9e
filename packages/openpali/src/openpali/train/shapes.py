"""The shape of the model that a recipe trains."""

from __future__ import annotations

from typing import Any

from openpali.architectures.registry import architecture_of, presets, presets_named
from openpali.train.recipe import Recipe
from openpali.weights.find import find_model
from openpali.weights.format import open_model


def shape_of(recipe: Recipe, *kinds: str) -> Any:
    """The configuration that ``model.preset`` names: a size, or that of a model folder.

    Args:
        kinds: of architectures; none: all that take prompts.
    """
    name = recipe.model.preset
    for shape in presets_named(name) or [_of_folder(name)]:
        known = architecture_of(shape)
        if known.kind in kinds or (known.answers and not kinds):
            if recipe.phases[0].tokens and not known.native:
                raise ValueError(
                    f'a {known.kind} takes images of one size: set model.resize = "squash", and size instead of '
                    "tokens in each phase"
                )
            return shape
    raise ValueError(
        f"model.preset = {name!r} is not a model that objective = {recipe.objective} trains: name another"
    )


def _of_folder(name: str) -> Any:
    try:
        return open_model(find_model(name)).config
    except FileNotFoundError as error:
        known = ", ".join(presets())
        raise ValueError(f"model.preset = {name!r} is neither one of {known} nor a model folder") from error
