"""Samples composed from a :class:`~openpali_lab.worlds.world.World`, each a pure function of its index."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from openpali.rng import named_generator
from openpali.tasks.example import Example
from openpali_lab.worlds.lines import line
from openpali_lab.worlds.printed import printed
from openpali_lab.worlds.sampler import Sampler
from openpali_lab.worlds.scenes import scene, single
from openpali_lab.worlds.splits import Split
from openpali_lab.worlds.texts import text
from openpali_lab.worlds.videos import video
from openpali_lab.worlds.world import World
from openpali_lab.worlds.writing import document, word

KINDS: dict[str, Callable[..., Example]] = {
    "single": single,
    "scene": scene,
    "word": word,
    "video": video,
    "document": document,
    "line": line,
    "printed": printed,
    "text": text,
}


class WorldSource:
    """2**40 samples of one kind (a key of :data:`KINDS`).

    Each is a pure function of (seed, split, kind, options, index): the same in any order, process or machine.

    Args:
        split: "train", or "heldout" for what training never shows (:func:`~openpali_lab.worlds.splits.is_heldout`).
        seed: of all that is random.
        canvas: height and width of the images, pixels; by default the world's own.
        options: those of the kind, keyword arguments of its function.
    """

    def __init__(
        self,
        world: World,
        kind: str,
        *,
        split: Split = "train",
        seed: int = 0,
        canvas: int | None = None,
        **options: Any,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"there is no kind of sample {kind!r}: choose one of {', '.join(KINDS)}")
        if split not in ("train", "heldout"):
            raise ValueError(f"there is no split {split!r}: choose train or heldout")
        known = [name for name in inspect.signature(KINDS[kind]).parameters if name != "sampler"]
        for option in options:
            if option not in known:
                raise ValueError(f"{kind} has no option {option!r}; its options are {', '.join(known) or 'none'}")
        self.world, self.kind, self.split, self.seed = world, kind, split, seed
        self.canvas = world.canvas if canvas is None else canvas
        self.options = options

    @property
    def labels(self) -> Sequence[str]:
        """Class names of its samples, sorted."""
        return sorted({stamp.category for stamp in self.world.stamps})

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, index: int) -> Example:
        """Sample ``index``; raises ``IndexError`` outside 0 .. 2**40 - 1."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        rng = named_generator("sample", self.seed, self.split, self.kind, index=index)
        key = f"{self.kind}-{self.split}-{self.seed}-{index}"
        stamps = self.world.stamps
        number, place = divmod(index, len(stamps))
        featured = stamps[_round(len(stamps), self.seed, self.split, number)[place]]
        return KINDS[self.kind](Sampler(self.world, self.split, self.canvas, rng, key, featured), **self.options)


@lru_cache(maxsize=16)
def _round(count: int, seed: int, split: str, number: int) -> Sequence[int]:
    """The order in which ``count`` stamps are featured in round ``number``.

    A batch shorter than a round then shows hardly any stamp twice. The sigmoid loss would treat two images of the
    same stamp as negatives of each other.
    """
    order: list[int] = named_generator("round", seed, split, index=number).permutation(count).tolist()
    return order
