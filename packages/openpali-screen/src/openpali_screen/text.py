"""What is read: pages, lines and words, with boxes in pixels of the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import prod

from openpali_screen.geometry import Box, Size, around
from openpali_screen.networks import Calibration

_LEGIBLE = 0.5  # least legibility of a page that can be read, and is turned no further


@dataclass(frozen=True)
class ReadWord:
    """A word of a page.

    Attributes:
        box: in pixels of the page.
        confidence: the product of the probabilities of its characters, in 0..1; or, if it is calibrated, the
            probability that it is right.
    """

    text: str
    box: Box
    confidence: float


@dataclass(frozen=True)
class ReadLine:
    """A line of a page; its words are in the order in which they are read.

    Attributes:
        block: number of the paragraph, column or table that it is in, from 0 on.
        row: number of its row on the page, from 0 on: the cells of a row of a table share it.
    """

    words: Sequence[ReadWord]
    box: Box
    block: int = 0
    row: int = 0

    @property
    def extent(self) -> Box:
        """The box of its words alone: that of a line may begin with an icon, or reach a little further."""
        return around(word.box for word in self.words)

    @property
    def confidence(self) -> float:
        """Of all its words together: the product of theirs."""
        return prod(word.confidence for word in self.words)

    @property
    def text(self) -> str:
        """The words, with a space between two."""
        return " ".join(word.text for word in self.words)

    @property
    def legibility(self) -> float:
        """The share of its characters that are in words of a confidence above .5; 0 without words."""
        lengths = [len(word.text) for word in self.words]
        legible = sum(length for length, word in zip(lengths, self.words, strict=True) if word.confidence > 0.5)
        return legible / max(1, sum(lengths))

    def within(self, size: Size) -> ReadLine:
        """The line with boxes that end where its page does: cells and the height of a line may reach beyond."""
        return self.moved(lambda box: box.within(size))

    def moved(self, to: Callable[[Box], Box]) -> ReadLine:
        """The line with its box and those of its words replaced."""
        words = [replace(word, box=to(word.box)) for word in self.words]
        return replace(self, words=words, box=to(self.box))

    def doubted(self, factor: float) -> ReadLine:
        """The line with the confidence of each word multiplied."""
        return replace(self, words=[replace(word, confidence=factor * word.confidence) for word in self.words])

    def calibrated(self, calibration: Calibration, least: float = 0.0) -> ReadLine | None:
        """The line with calibrated confidence, without words of less than ``least``; None if that leaves none."""
        calibrated = [replace(word, confidence=calibration.of(word.confidence)) for word in self.words]
        words = [word for word in calibrated if word.confidence >= least]
        return replace(self, words=words) if words else None


@dataclass(frozen=True)
class ReadPage:
    """What a page says.

    Attributes:
        lines: in reading order.
        size: of the page in pixels.
        ood_score: out-of-distribution score of the page, above 1 for one in a hundred pages of the training
            distribution; None without a detector.
        angle: at which its text runs, in counter-clockwise degrees above -180 up to 180; 90: from bottom to top.
        legibility: the share of the text that was read: see :attr:`ReadLine.legibility`.
    """

    lines: list[ReadLine]
    size: Size
    ood_score: float | None = None
    angle: float = 0.0
    legibility: float = 1.0

    @property
    def is_legible(self) -> bool:
        """Whether the page could be read."""
        return self.legibility >= _LEGIBLE

    @property
    def reason(self) -> str | None:
        """Why the page is out of distribution: "image", it is unlike pages and screens, or "text", its text cannot
        be read, such as that of another script; None: it is not, as far as is known."""
        if not self.is_legible:
            return "text"
        return "image" if (self.ood_score or 0.0) > 1 else None

    @property
    def out_of_distribution(self) -> bool | None:
        """Whether the page is out of distribution, so that no word can be trusted; None: not known."""
        return bool(self.reason) if self.reason or self.ood_score is not None else None

    @property
    def rows(self) -> list[list[ReadLine]]:
        """The lines, those of a row together."""
        return [[*lines] for _, lines in groupby(self.lines, lambda line: line.row)]

    @property
    def blocks(self) -> list[list[list[ReadLine]]]:
        """The rows, those of a block together."""
        return [[*rows] for _, rows in groupby(self.rows, lambda row: row[0].block)]

    @property
    def text(self) -> str:
        """The rows, with two spaces between columns."""
        return "\n".join(map(text_of_row, self.rows))


def text_of_row(row: Sequence[ReadLine]) -> str:
    """The text of lines side by side."""
    return "  ".join(line.text for line in row)
