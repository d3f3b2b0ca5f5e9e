"""The networks of a reader of screens as functions of arrays, whatever runs them, and what belongs to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from openpali_screen.geometry import Image, Size
from openpali_screen.language import LanguageModel

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class FinderNetwork:
    """Finds lines of text.

    Attributes:
        tile: size of what it sees at once.
        run: tiles uint8 ``[B, H, W, 3]`` -> of each cell of 4 x 4 pixels the probability that the middle of a line
            is there, and the pixels up to its top and down to its bottom, ``[B, 3, H / 4, W / 4]``; and tokens
            ``[B, N, D]``, by which pages are told from other images.
    """

    tile: Size
    run: Callable[[Image], tuple[Floats, Floats]]


@dataclass(frozen=True)
class ReaderNetwork:
    """Reads lines.

    Attributes:
        size: height of a line, and width of the widest, in pixels.
        steps: columns of a patch for which it names a character.
        characters: in the order of its outputs.
        run: lines uint8 ``[B, H, W, 3]`` and how many columns of patches each has, ``[B]`` -> probabilities of
            nothing (CTC's blank) and of each character, ``[B, T, 1 + C]``.
    """

    size: Size
    steps: int
    characters: Sequence[str]
    run: Callable[[Image, Ints], Floats]


@dataclass(frozen=True)
class ElementNetwork:
    """Says which proposals are elements.

    Attributes:
        side: of a view in pixels.
        roles: in the order of its outputs.
        run: views uint8 ``[P, 6, S, S, 3]``, kinds ``[P]`` and boxes ``[P, 4]`` of the proposals of a screen, and
            its height and width ``[1, 2]`` -> the probability of an element of each role ``[P, R]``, and how far
            its sides are from the centre of the proposal, up, left, down and right, ``[P, R, 4]``.
    """

    side: int
    roles: Sequence[str]
    run: Callable[[Image, Ints, Floats, Floats], tuple[Floats, Floats]]


@dataclass(frozen=True)
class IconNetwork:
    """Names icons.

    Attributes:
        side: of an image of one in pixels.
        labels: in the order of its outputs.
        run: images uint8 ``[B, S, S, 3]`` -> probabilities ``[B, labels]``.
    """

    side: int
    labels: Sequence[str]
    run: Callable[[Image], Floats]


@dataclass(frozen=True)
class Calibration:
    """The probability that an answer is right: ``sigmoid(log-odds / temperature + offset)``, and by role another
    offset."""

    temperature: float
    offset: float = 0.0
    offsets: Mapping[str, float] = field(default_factory=dict)

    def of(self, probability: float, name: str = "") -> float:
        """Of an answer of this probability."""
        p = min(max(probability, 1e-9), 1 - 1e-9)
        odds = min(max(np.log(p) - np.log1p(-p), -12.0), 12.0) / self.temperature
        return float(0.5 * (1 + np.tanh((odds + self.offset + self.offsets.get(name, 0.0)) / 2)))


@dataclass(frozen=True)
class PageDetector:
    """Tells pages and screens from other images, by the distance of their features from those learnt from.

    Attributes:
        mean, whiten: of the features ``[F]``, ``[F, F]``.
        centres: of what was learnt from, whitened, ``[K, F]``.
        limit: distance beyond which one in a hundred pages is.
    """

    mean: Floats
    whiten: Floats
    centres: Floats
    limit: float

    def score(self, features: Floats) -> float:
        """Distance of an image with these features ``[F]`` from the nearest centre, in units of the limit."""
        whitened = (features - self.mean) @ self.whiten
        return float(np.sqrt(np.square(whitened - self.centres).sum(1).min()) / self.limit)


@dataclass(frozen=True)
class Networks:
    """What a reader of screens is made of; ``name`` is what messages call it.

    Attributes:
        elements, icons: None: no elements are found, no icons named.
        language: decides where characters are unclear.
        detector: of what is no page; None: not known.
        words, roles: calibrate the confidence of words, and of elements by role.
    """

    name: str
    finder: FinderNetwork
    reader: ReaderNetwork
    elements: ElementNetwork | None = None
    icons: IconNetwork | None = None
    language: LanguageModel | None = None
    detector: PageDetector | None = None
    words: Calibration | None = None
    roles: Calibration | None = None
