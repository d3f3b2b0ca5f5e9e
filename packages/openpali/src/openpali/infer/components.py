"""What components of a bundle are: parts that answer without a decoder, such as one that reads screens.

An extension names its components by the part of a bundle that each is made of
(:attr:`openpali.extensions.Extension.components`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from openpali.extensions import loaded
from openpali.infer.generate import Generation
from openpali.infer.pipeline import Prediction, Row, Sized
from openpali.metrics.calibration import Calibration
from openpali.tasks.base import Answer
from openpali.tasks.dialects import Dialect
from openpali.tasks.example import Image
from openpali.weights.files import ABOUT, SIGLIP
from openpali.weights.format import ModelFolder

T = TypeVar("T")

ALONE, FIRST, LAST = 1.0, 0.9, 0.1
"""Scores of :meth:`Component.can`: no other part is asked; asked before, or after, the parts with a decoder."""
DECODERS = 0.5
"""The score of the parts with a decoder."""


@dataclass(frozen=True)
class Question:
    """What a bundle is asked."""

    task: str
    prompt: str
    images: Sequence[Sized]


class Bundle(Protocol):
    """What a component sees of the bundle that it is part of, an :class:`openpali.infer.pali.Pali`.

    Attributes:
        parts: where each of its parts is.
        names: of objects that it lists as known.
        dialect: of its prompts.
        device: where it computes.
    """

    names: tuple[str, ...]
    device: torch.device

    @property
    def parts(self) -> Mapping[str, Path]: ...
    @property
    def name(self) -> str: ...
    @property
    def dialect(self) -> Dialect: ...

    def load(self, part: str) -> tuple[ModelFolder, torch.nn.Module]:
        """A part and its model in evaluation mode."""
        ...

    def calibration(self, part: str, task: str) -> Calibration | None:
        """How the confidence of a part in a task is calibrated; None: it is not."""
        ...

    def shared(self, kind: Callable[[Any], T]) -> T:
        """The one object of a kind that the components of this bundle share."""
        ...


class Component:
    """A part that answers without a decoder.

    Args:
        bundle: that it is part of.

    Attributes:
        looks_for: what it takes names for that the bundle does not list, for a message.
    """

    looks_for = ""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def can(self, question: Question) -> float:
        """How well it answers, from 0, not at all, to :data:`ALONE`. Below that it is asked if the bundle lists it
        for the task: before the parts with a decoder if it is above :data:`DECODERS`, else after them."""
        return 0.0

    def answer(self, row: Row) -> Prediction:
        """The answer to a prompt about images in full size."""
        raise ValueError(f"{type(self).__name__} answers no prompts")

    def knows(self, name: str) -> bool:
        """Whether a name that the bundle does not list means something to it."""
        return False

    @classmethod
    def abilities(cls, parts: Collection[str]) -> Mapping[str, bool]:
        """What a server says that a bundle of these parts can do, or cannot, by name."""
        return {}

    def features(self, image: Image) -> Tensor:
        """Features of an image ``[H, W, 3]`` for an out-of-distribution detector, float ``[D]``."""
        raise ValueError(f"{type(self).__name__} has no features for an out-of-distribution detector")


@cache
def component_types() -> Mapping[str, type[Component]]:
    """Part of a bundle -> its component."""
    return loaded("components", lambda _, each: each)


@cache
def encoder_only() -> frozenset[str]:
    """The parts that answer without a decoder."""
    return frozenset((SIGLIP, ABOUT, *component_types()))


def answered(row: Row, answer: Answer, part: str, ood_score: float | None = None) -> Prediction:
    """The prediction of a part that generates no tokens."""
    return Prediction(row.prompt, answer, Generation([], [], 0.0, "eos"), ood_score, part)
