"""Random choices of a composed sample that several kinds of sample share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openpali.tasks.example import Image
from openpali_lab.worlds import backgrounds
from openpali_lab.worlds.paint import Patch
from openpali_lab.worlds.splits import Split, is_heldout
from openpali_lab.worlds.world import Stamp, World

TRIES = 2000  # number of rejected candidates before giving up on a sample


@dataclass(frozen=True)
class Sampler:
    """Draws the choices of one sample.

    Attributes:
        world, split: where the choices are drawn from.
        canvas: height and width of the images, pixels.
        rng: the sample's own generator, the only source of randomness.
        key: name of the sample.
        featured: the stamp to show, for kinds that show one; each stamp is featured once in every ``len(stamps)``
            consecutive samples.
    """

    world: World
    split: Split
    canvas: int
    rng: np.random.Generator
    key: str
    featured: Stamp

    @property
    def heldout(self) -> bool:
        """Whether the sample belongs to the held-out split."""
        return self.split == "heldout"

    def stamp(self) -> Stamp:
        return self.world.stamps[int(self.rng.random() * len(self.world.stamps))]

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(self.rng.random())

    def integer(self, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``, both included."""
        return low + int(self.rng.random() * (high - low + 1))

    def word(self, language: str) -> str:
        """A word of the split in a language, or in English if there are none, of a random length."""
        words = self.world.words.get(language) or self.world.words["en"]
        found = words.by_length.get((self.split, self.integer(2, 9))) or words.all
        return found[self.integer(0, len(found) - 1)]

    def stamps(self, count: int) -> list[Stamp]:
        """``count`` stamps with different names.

        In training samples no pair of the names is held out; in held-out samples the first two names are a
        held-out pair.
        """
        for _ in range(TRIES):
            chosen = [self.stamp()]
            for _ in range(200):
                if len(chosen) == count:
                    return chosen
                other = self.stamp()
                if any(other.name == stamp.name for stamp in chosen):
                    continue
                apart = any(_is_heldout_pair(other.name, stamp.name) for stamp in chosen)
                if (self.heldout and len(chosen) > 1) or apart == self.heldout:
                    chosen.append(other)
        raise ValueError(
            f"the world {self.world.name} has too few names for {count} different ones together: ask for fewer"
        )

    def background(self, *avoid: Patch) -> Image:
        """A background of the split, uint8 [canvas, canvas, 3]. Tries up to four until all patches stand out."""
        for _ in range(4):
            image = backgrounds.render(backgrounds.pick(self.rng, self.split), self.canvas, self.world)
            mean = image[4::8, 4::8].mean(axis=(0, 1), dtype=np.float32)
            if all(np.abs(mean - patch.stamp.colour).max() > 40 for patch in avoid):
                break
        return image


def _is_heldout_pair(first: str, second: str) -> bool:
    """Whether two names never share a training image."""
    return is_heldout("pair", *sorted((first, second)))
