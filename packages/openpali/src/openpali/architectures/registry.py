"""Every architecture by kind: a new one is a class in a file of its own, and a line here.

The first that reads a public checkpoint takes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

from openpali.architectures.base import Architecture, Blocks
from openpali.architectures.classifier import ClassifierArchitecture
from openpali.architectures.mask_vqvae import MaskVQVAEArchitecture
from openpali.architectures.pali import PaliArchitecture
from openpali.architectures.paligemma import PaliGemmaArchitecture
from openpali.architectures.rules import read_config
from openpali.architectures.siglip.architecture import SigLIPArchitecture
from openpali.architectures.t5gemma2.architecture import T5Gemma2Architecture
from openpali.extensions import loaded
from openpali.messages import hint
from openpali.tasks.dialects import PALI3, Dialect

_OWN: tuple[type[Architecture[Any]], ...] = (
    SigLIPArchitecture,
    ClassifierArchitecture,
    PaliArchitecture,
    PaliGemmaArchitecture,
    T5Gemma2Architecture,
    MaskVQVAEArchitecture,
)


@cache
def architectures() -> Mapping[str, Architecture[Any]]:
    """Kind -> architecture, those of extensions too."""
    others = loaded("architectures", lambda _, each: each())
    return {each.kind: each for each in (*(own() for own in _OWN), *others.values())}


def architecture_of(config: Any) -> Architecture[Any]:
    """The architecture of a model's configuration."""
    return next(each for each in architectures().values() if type(config) is each.config)


def build(config: Any) -> nn.Module:
    """The model of this configuration, without values: assign them, or draw them (:mod:`openpali.model.init`)."""
    return architecture_of(config).build(config)


def architecture_for(source: Path) -> Architecture[Any]:
    """The architecture that a public checkpoint is read as."""
    described = {} if source.is_file() else read_config(source)
    for each in architectures().values():
        if each.reads(source, described):
            return each
    known = ", ".join(name for each in architectures().values() for name in each.model_types)
    what = repr(described.get("model_type", "no model_type")) if described else "no file of arrays that is known"
    raise ValueError(f"{source} holds {what}: {known} can be converted")


def presets() -> Mapping[str, Any]:
    """The shape of each preset of the kinds that take prompts, by name."""
    answering = (each for each in architectures().values() if each.answers)
    return {name: shape for each in answering for name, shape in each.presets.items()}


def presets_named(name: str) -> list[Any]:
    """The shapes of this name, one of each architecture that has it."""
    return [each.presets[name] for each in architectures().values() if name in each.presets]


def block_types() -> Blocks:
    """The blocks of all architectures, see :class:`Architecture`."""
    return {block: parts for each in architectures().values() for block, parts in each.blocks.items()}


def dialects() -> Mapping[str, Dialect]:
    """Every dialect by name."""
    return {each.name: each for each in (PALI3, *(known.dialect for known in architectures().values()))}


def find_dialect(name: str) -> Dialect:
    """A dialect by name; empty: the default one."""
    known = dialects()
    if name and name not in known:
        raise ValueError(f"unknown dialect {name!r}; {hint(name, known)}")
    return known[name or PALI3.name]
