"""Names of models that ship with the package, and of runs, where transformers takes a folder."""

from __future__ import annotations

from typing import Any

from openpali.weights.bundle import main_part
from openpali.weights.find import find_model


def folder_of(name: Any) -> Any:
    """The folder of a model by name, see :func:`openpali.weights.find.find_model`; of a bundle, its main part.

    Any other name stays as it is, for transformers to look up.
    """
    try:
        return name if name is None else main_part(find_model(str(name)))
    except FileNotFoundError:
        return name


class Named:
    """Base of classes whose ``from_pretrained`` also takes such names."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        return super().from_pretrained(folder_of(pretrained_model_name_or_path), *args, **kwargs)  # type: ignore[misc]
