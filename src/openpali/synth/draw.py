"""What every kind of sample is drawn from, and the choices that several kinds share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openpali.synth import backgrounds
from openpali.synth.paint import Patch
from openpali.synth.splits import Split, is_heldout
from openpali.synth.world import Stamp, World
from openpali.tasks.example import Image as Picture

TRIES = 2000


@dataclass(frozen=True)
class Draw:
    """One sample about to be drawn: from which world and split, at which size (pixels a side), by which numbers.

    ``turn`` is the stamp whose turn it is: each comes once in every round of as many samples.
    """

    world: World
    split: Split
    canvas: int
    rng: np.random.Generator
    key: str
    turn: Stamp

    @property
    def heldout(self) -> bool:
        return self.split == "heldout"

    def stamp(self) -> Stamp:
        """Any stamp of the world."""
        return self.world.stamps[int(self.rng.random() * len(self.world.stamps))]

    def uniform(self, low: float, high: float) -> float:
        """A number between ``low`` and ``high``."""
        return low + (high - low) * float(self.rng.random())

    def integer(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return low + int(self.rng.random() * (high - low + 1))

    def stamps(self, count: int) -> list[Stamp]:
        """``count`` stamps of different names, as the split has them: in training no pair of their names is held
        out, in held-out samples one pair is. Raises ``ValueError`` where the world has too few."""
        for _ in range(TRIES):
            chosen = [self.stamp()]
            for _ in range(200):
                if len(chosen) == count:
                    return chosen
                other = self.stamp()
                if any(other.name == stamp.name for stamp in chosen):
                    continue
                apart = any(heldout_pair(other.name, stamp.name) for stamp in chosen)
                if (self.heldout and len(chosen) > 1) or apart == self.heldout:
                    chosen.append(other)
        raise ValueError(f"the world {self.world.name} has too few names for {count} different ones together")

    def background(self, *avoid: Patch) -> Picture:
        """A background of the split, if it can be against which every patch stands out a little."""
        for _ in range(4):
            picture = backgrounds.render(backgrounds.pick(self.rng, self.split), self.canvas, self.world)
            mean = picture[4::8, 4::8].mean(axis=(0, 1), dtype=np.float32)
            if all(np.abs(mean - patch.stamp.colour).max() > 40 for patch in avoid):
                break
        return picture


def heldout_pair(first: str, second: str) -> bool:
    """Whether two names never share a training picture."""
    return is_heldout("pair", *sorted((first, second)))
