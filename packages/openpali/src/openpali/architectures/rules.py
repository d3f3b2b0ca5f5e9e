"""Names and layouts of parameters in other libraries, as a table of rules that work in both directions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from openpali.mistakes import reason
from openpali.tensors import Shape, require_fit, shapes

Layout = Callable[[Tensor], Tensor]


def same(tensor: Tensor) -> Tensor:
    """Leave the layout as it is."""
    return tensor


@dataclass(frozen=True)
class Rule:
    """Our parameters, concatenated along their first axis, equal theirs, concatenated in the same way.

    Most rules are one to one. A fused projection on one side is several parameters on the other.

    Args:
        ours, theirs: names.
        to_ours: converts each of theirs to our layout.
        to_theirs: the inverse, for each part.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    to_ours: Layout = same
    to_theirs: Layout = same

    def read(self, theirs: Mapping[str, Tensor], sizes: Sequence[int]) -> dict[str, Tensor]:
        """Our parameters from theirs; ``sizes`` are the lengths of our first axes."""
        parts = [self.to_ours(theirs[key]) for key in self.theirs]
        whole = torch.cat(parts) if len(parts) > 1 else parts[0]
        split = torch.split_with_sizes(whole, list(sizes)) if len(self.ours) > 1 else [whole]
        return dict(zip(self.ours, split, strict=True))

    def write(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Their parameters from ours."""
        parts = [ours[key] for key in self.ours]
        whole = torch.cat(parts) if len(parts) > 1 else parts[0]
        split = whole.chunk(len(self.theirs)) if len(self.theirs) > 1 else [whole]
        return {key: self.to_theirs(part) for key, part in zip(self.theirs, split, strict=True)}


def dense(ours: str, *theirs: str) -> list[Rule]:
    """A layer with weight and bias; several of theirs are one of ours."""
    return [Rule((f"{ours}.{kind}",), tuple(f"{each}.{kind}" for each in theirs)) for kind in ("weight", "bias")]


def skeleton(build: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """The parameters of a model by name, on the meta device."""
    with torch.device("meta"):
        return build().state_dict()


def read(
    rules: Sequence[Rule], ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], name: str
) -> dict[str, Tensor]:
    """All our parameters from all of theirs.

    Args:
        ours: our parameters, as :func:`skeleton` makes them: the shapes to expect.
        theirs: the checkpoint.
        name: name of the checkpoint in error messages.
    """
    require_fit(_expected(rules, ours), shapes(theirs), name)
    weights: dict[str, Tensor] = {}
    for rule in rules:
        weights |= rule.read(theirs, [len(ours[key]) for key in rule.ours])
    return {key: value.contiguous() for key, value in weights.items()}


def write(rules: Sequence[Rule], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All their parameters from ours."""
    weights: dict[str, Tensor] = {}
    for rule in rules:
        weights |= rule.write(ours)
    return {key: value.contiguous() for key, value in weights.items()}


def _expected(rules: Sequence[Rule], ours: Mapping[str, Tensor]) -> dict[str, Shape]:
    return {key: tuple(part.shape) for rule in rules for key, part in rule.write(ours).items()}


def read_config(folder: Path) -> dict[str, Any]:
    """The ``config.json`` of a transformers checkpoint."""
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint in {folder}: it has no config.json")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config["model_type"], str):
            raise TypeError("model_type is not text")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a configuration of transformers ({reason(error)})") from error
    return dict(config)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, empty if there is no such file."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a JSON object")
    return content


def drop_copies(found: dict[str, Tensor], copies: Mapping[str, str], where: str) -> None:
    """Drop other names of tied matrices (copy -> original). One that is there alone becomes its original.

    Raises:
        ValueError: a copy differs.
    """
    for copy, original in copies.items():
        if copy in found:
            weight = found.pop(copy)
            if not torch.equal(found.setdefault(original, weight), weight):
                raise ValueError(
                    f"{where}: {copy} differs from {original}, and they are one in models of this kind"
                )


def require_settings(config: Mapping[str, Any], expected: Mapping[str, Any], where: str) -> None:
    """Check settings that are fixed in our modules; a missing or null one is the default, which agrees."""
    other = [
        f"{key} = {given!r} (only {value!r} can be read)"
        for key, value in expected.items()
        if (given := config.get(key)) is not None and given != value
    ]
    if other:
        raise ValueError(f"{where} is of a kind that cannot be read: " + "; ".join(other))
