"""Reading a page in two passes: the finder says where lines are, the reader what they say.

A page that is skewed or lies on its side is turned. Memory is that of one batch of either, and of the cells of the
page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from openpali.tasks.example import Image, Size
from openpali.weights.ood import OodDetector, is_out
from openpali_screen.find.network import Finder
from openpali_screen.find.predict import (
    FoundLine,
    find_text,
)
from openpali_screen.order import reading_order
from openpali_screen.read.language import LanguageModel
from openpali_screen.read.network import Reader
from openpali_screen.read.predict import (
    read_lines,
)
from openpali_screen.text import ReadLine
from openpali_screen.upright import Turn

_CLEAR = 0.7  # least confidence of a line that surely is text: where nothing is written, lines are faint
_SHORTEST = 0.5  # heights; a shorter line counts as one of this length
_LEGIBLE = 0.5  # least legibility of a page that can be read, and is turned no further
_WHOLLY = 0.9  # least legibility of a page whose skew, if there is one, does no harm


@dataclass(frozen=True)
class Reading:
    """What a page says.

    Attributes:
        lines: in reading order.
        ood_score: out-of-distribution score of the page, above 1 for one in a hundred pages of the training
            distribution; None without a detector.
        angle: at which its text runs, in counter-clockwise degrees above -180 up to 180; 90: from bottom to top.
        legibility: the share of the text that was read: see :attr:`ReadLine.legibility`.
    """

    lines: list[ReadLine]
    ood_score: float | None = None
    angle: float = 0.0
    legibility: float = 1.0

    @property
    def reason(self) -> str | None:
        """Why the page is out of distribution: "image", it is unlike pages and screens, or "text", its text cannot
        be read, such as that of another script; None: it is not, as far as is known."""
        if self.legibility < _LEGIBLE:
            return "text"
        return "image" if is_out(self.ood_score) else None

    @property
    def out_of_distribution(self) -> bool | None:
        """Whether the page is out of distribution, so that no word can be trusted; None: not known."""
        return bool(self.reason) if self.reason or self.ood_score is not None else None


def read_page(
    finder: Finder,
    reader: Reader,
    image: Image,
    language: LanguageModel | None = None,
    detector: OodDetector | None = None,
) -> Reading:
    """Read a page ``[H, W, 3]`` uint8; lines without a character are left out. Boxes end where the page does.

    A page that is skewed, or of which little can be read, is turned, too; the most legible turn is kept.
    """
    looks: list[Reading] = []

    def look(angle: float) -> float:
        turn = Turn(Size(*image.shape[:2]), 180 - (180 - angle) % 360)
        upright = turn.upright(image)
        seen = find_text(finder, upright)
        found = _in_order(seen.lines)
        read = read_lines(reader, upright, [line.box for line, _, _ in found], language)
        lines = [replace(line, block=b, row=r) for line, (_, b, r) in zip(read, found, strict=True) if line.words]
        size = Size(*upright.shape[:2])  # boxes are cut last: the reader sees what is around them
        placed = [line.within(size).moved(lambda box: turn.given(box, size)) for line in lines]
        score = None if detector is None else float(detector.score(seen.features[None]))
        clear = [line for line, (own, _, _) in zip(read, found, strict=True) if own.confidence >= _CLEAR]
        looks.append(Reading(placed, score, turn.angle, _legibility(clear)))
        return seen.skew

    def is_legible() -> bool:
        return max(reading.legibility for reading in looks) >= _LEGIBLE

    for side in (0.0, 90.0):
        skew = look(side)
        if skew and looks[-1].legibility < _WHOLLY:
            look(side + skew)
        if not is_legible():
            look(side + skew + 180)
        if is_legible():
            break
    best = max(looks, key=lambda reading: reading.legibility)
    return best if best.legibility >= _LEGIBLE else looks[0]


def _in_order(found: Sequence[FoundLine]) -> list[tuple[FoundLine, int, int]]:
    """Lines in reading order, with the numbers of their blocks and rows."""
    blocks = reading_order([line.box for line in found])
    rows = [(block, row) for block, some in enumerate(blocks) for row in some]
    return [(found[i], block, number) for number, (block, row) in enumerate(rows) for i in row]


def _legibility(lines: Sequence[ReadLine]) -> float:
    """The share of lines, by their length in heights, that was read; 1 of none."""
    lengths = [max(_SHORTEST, line.box.width / line.box.height) for line in lines]
    return float(np.average([line.legibility for line in lines], weights=lengths)) if lines else 1.0
