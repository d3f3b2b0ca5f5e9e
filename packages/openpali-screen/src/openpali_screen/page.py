"""Reading a page in two passes: the finder says where lines are, the reader what they say.

A page that is skewed or lies on its side is turned. Memory is that of one batch of either, and of the cells of the
page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from openpali_screen.find.predict import FoundLine, find_text
from openpali_screen.geometry import Image, Size
from openpali_screen.language import LanguageModel
from openpali_screen.networks import FinderNetwork, PageDetector, ReaderNetwork
from openpali_screen.order import reading_order
from openpali_screen.read.predict import read_lines
from openpali_screen.text import ReadLine, ReadPage
from openpali_screen.views import Turn

_CLEAR = 0.7  # least confidence of a line that surely is text: where nothing is written, lines are faint
_SHORTEST = 0.5  # heights; a shorter line counts as one of this length
_WHOLLY = 0.9  # least legibility of a page whose skew, if there is one, does no harm


def read_page(
    finder: FinderNetwork,
    reader: ReaderNetwork,
    image: Image,
    language: LanguageModel | None = None,
    detector: PageDetector | None = None,
) -> ReadPage:
    """Read a page ``[H, W, 3]`` uint8; lines without a character are left out. Boxes end where the page does.

    A page that is skewed, or of which little can be read, is turned, too; the most legible turn is kept.
    """
    looks: list[ReadPage] = []

    def look(angle: float) -> float:
        turn = Turn(Size(*image.shape[:2]), 180 - (180 - angle) % 360)
        upright = turn.upright(image)
        boxes, features, skew = find_text(finder, upright)
        found = _in_order(boxes)
        read = read_lines(reader, upright, [line.box for line, _, _ in found], language)
        lines = [replace(line, block=b, row=r) for line, (_, b, r) in zip(read, found, strict=True) if line.words]
        size = Size(*upright.shape[:2])  # boxes are cut last: the reader sees what is around them
        placed = [line.within(size).moved(lambda box: turn.given(box, size)) for line in lines]
        score = None if detector is None else detector.score(features)
        clear = [line for line, (own, _, _) in zip(read, found, strict=True) if own.confidence >= _CLEAR]
        looks.append(ReadPage(placed, turn.size, score, turn.angle, _legibility(clear)))
        return skew

    for side in (0.0, 90.0):
        skew = look(side)
        if skew and looks[-1].legibility < _WHOLLY:
            look(side + skew)
        if not any(page.is_legible for page in looks):
            look(side + skew + 180)
        if any(page.is_legible for page in looks):
            break
    best = max(looks, key=lambda page: page.legibility)
    return best if best.is_legible else looks[0]


def _in_order(found: Sequence[FoundLine]) -> list[tuple[FoundLine, int, int]]:
    """Lines in reading order, with the numbers of their blocks and rows."""
    blocks = reading_order([line.box for line in found])
    rows = [(block, row) for block, some in enumerate(blocks) for row in some]
    return [(found[i], block, number) for number, (block, row) in enumerate(rows) for i in row]


def _legibility(lines: Sequence[ReadLine]) -> float:
    """The share of lines, by their length in heights, that was read; 1 of none."""
    lengths = [max(_SHORTEST, line.box.width / line.box.height) for line in lines]
    return float(np.average([line.legibility for line in lines], weights=lengths)) if lines else 1.0
