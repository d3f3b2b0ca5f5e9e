"""Samples of the synthetic worlds, made on demand: pure functions of a seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from openpali.data.sources.base import Source, spread
from openpali.data.sources.registry import open_source
from openpali.eval.benchmark import SEED
from openpali.eval.splits import EvalSplit
from openpali.rng import generator
from openpali.tasks.example import Example
from openpali_lab.worlds.compose import WorldSource
from openpali_lab.worlds.splits import Split

SIZE = 1000  # number of images or videos per benchmark
CALIBRATION_SEED = 41_991_0132  # of all sets that confidence is fitted on; used for nothing else
CALIBRATION_SIZE = 2 * SIZE


@dataclass(frozen=True)
class Composed:
    """The first images of a split of a world.

    Attributes:
        world, kind, options: see :class:`~openpali_lab.worlds.compose.WorldSource`.
        view: turns an example and its index into the sample.
        size: number of images.
        split, seed: see :class:`~openpali_lab.worlds.compose.WorldSource`; by default what evaluations score.
    """

    world: str
    kind: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    view: Callable[[Example, int], Example] = lambda example, index: example
    size: int = SIZE
    split: Split = "heldout"
    seed: int = SEED

    @cached_property
    def source(self) -> WorldSource:
        """The whole split."""
        return _split(self.world, self.kind, split=self.split, seed=self.seed, **self.options)

    def for_calibration(self) -> Composed:
        """Images of the training split, drawn with a seed that no training uses."""
        return dataclasses.replace(self, size=CALIBRATION_SIZE, split="train", seed=CALIBRATION_SEED)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int, /) -> Example:
        if not 0 <= index < self.size:
            raise IndexError(f"sample {index} of {self.size}")
        return self.view(self.source[index], index)


@dataclass(frozen=True)
class Spread:
    """At most ``size`` examples of a source, evenly spaced, each as ``view`` shows it."""

    source: Source
    size: int
    view: Callable[[Example], Example] = lambda example: example

    @cached_property
    def _chosen(self) -> list[int]:
        return spread(len(self.source), self.size)

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int, /) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return self.view(self.source[self._chosen[index]])


def mirrored(example: Example) -> Example:
    """The example with its images mirrored left to right, for questions in which no side matters."""
    return dataclasses.replace(example, images=[np.ascontiguousarray(image[:, ::-1]) for image in example.images])


def in_one_language(example: Example, index: int) -> Example:
    """The example with the captions of one language; languages take turns by index."""
    languages = sorted(example.captions)
    lang = languages[index % len(languages)]
    return dataclasses.replace(example, captions={lang: example.captions[lang]}, lang=lang)


def of_one_name(example: Example, index: int) -> Example:
    """The example with only the objects of one name."""
    names = sorted({thing.name for thing in example.objects})
    name = names[int(generator(SEED, 1, index).integers(len(names)))]
    return dataclasses.replace(example, objects=[thing for thing in example.objects if thing.name == name])


def heldout(world: str, kind: str, seed: int = SEED, **options: Any) -> WorldSource:
    """The held-out split of a world, drawn with a seed of evaluations."""
    return _split(world, kind, split="heldout", seed=seed, **options)


def _split(world: str, kind: str, **options: Any) -> WorldSource:
    source: Source = open_source(f"{world}/{kind}", options)
    assert isinstance(source, WorldSource)
    return source


def told(split: EvalSplit, size: int) -> str:
    """The samples of a split, for a card."""
    return f"{'held out' if split == 'heldout' else 'development'}, {size:,} images"
