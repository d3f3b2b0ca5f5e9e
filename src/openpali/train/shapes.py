"""The shape of the model that a recipe trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from openpali.model.sizes import SIZES, Preset
from openpali.train.recipe import Recipe
from openpali.weights.find import find_model
from openpali.weights.format import Config, open_model

C = TypeVar("C", bound=Config)


def shape_of(recipe: Recipe, *kinds: type[C]) -> C:
    """The configuration that ``model.preset`` names: a size, or that of a model folder.

    Raises:
        ValueError: there is none of this name, or it is of another kind.
    """
    name = recipe.model.preset
    known: Sequence[Config]
    match SIZES.get(name):
        case None:
            known = [_of_folder(name)]
        case Preset() as preset:
            known = [preset.siglip, preset.pali, preset.masks, preset.finder, preset.reader]
        case config:
            known = [config]
    for each in known:
        if isinstance(each, kinds):
            return each
    raise ValueError(
        f"model.preset = {name!r} is not a model that objective = {recipe.objective} trains: name another"
    )


def _of_folder(name: str) -> Config:
    try:
        return open_model(find_model(name)).config
    except FileNotFoundError as error:
        raise ValueError(
            f"model.preset = {name!r} is neither one of {', '.join(SIZES)} nor a model folder"
        ) from error
