"""Every objective by name, the ``objective`` of a recipe. A new one is a file in this folder and a line below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch

from openpali.extensions import loaded
from openpali.text.tokenizer import Tokenizer
from openpali.train.objectives.base import Objective
from openpali.train.objectives.classify import ClassifyObjective
from openpali.train.objectives.mask_vqvae import MaskObjective
from openpali.train.objectives.sequence import SequenceObjective
from openpali.train.objectives.siglip import SiglipObjective
from openpali.train.recipe import Recipe


@cache
def objectives() -> dict[str, type[Objective[Any]]]:
    """Name -> objective, those of extensions too."""
    return {
        "siglip": SiglipObjective,
        "classify": ClassifyObjective,
        "sequence": SequenceObjective,
        "mask_vqvae": MaskObjective,
        **loaded("objectives", lambda _, each: each),
    }


def build_objective(
    recipe: Recipe, tokenizer: Tokenizer, labels: Callable[[], Sequence[str]] = tuple
) -> Objective[Any]:
    """The objective of a recipe, its model on the meta device; ``labels`` reads the class names of its data."""
    with torch.device("meta"):
        return objectives()[recipe.objective](recipe, tokenizer, labels)
