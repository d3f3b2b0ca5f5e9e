"""An example, before a task turns it into a sample: images and their annotations.

Every source (composed scenes, JSONL, benchmark files) yields :class:`Example`; each task reads what it needs from
it. Coordinates are in pixels of the images at their size on disk, in the order (ymin, xmin, ymax, xmax).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # [H, W, 3] RGB
Mask = NDArray[np.bool_]  # [H, W]

FRAMES = 8  # default number of frames of a video


class Box(NamedTuple):
    """A box in pixels of the original image; ``ymax`` and ``xmax`` are exclusive edges (a full-size box is
    ``(0, 0, H, W)``)."""

    ymin: float
    xmin: float
    ymax: float
    xmax: float

    @property
    def height(self) -> float:
        return self.ymax - self.ymin

    @property
    def width(self) -> float:
        return self.xmax - self.xmin

    @property
    def area(self) -> float:
        return self.height * self.width

    @property
    def centre(self) -> tuple[float, float]:
        """(y, x) of its centre, where one would click."""
        return (self.ymin + self.ymax) / 2, (self.xmin + self.xmax) / 2

    def within(self, size: Size) -> Box:
        """The part of it that is in an image of this size; without area if none is."""
        return Box(*(min(max(0.0, edge), float(side)) for edge, side in zip(self, (*size, *size), strict=True)))


def tight_box(mask: Mask) -> Box:
    """The smallest box around a mask ``[H, W]``."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise ValueError("the mask is empty")
    return Box(float(rows[0]), float(columns[0]), float(rows[-1] + 1), float(columns[-1] + 1))


class Size(NamedTuple):
    """Height and width of an image in pixels."""

    height: int
    width: int

    @classmethod
    def parse(cls, text: str) -> Size:
        """The size "224" (a square) or "48x384" (height, width)."""
        sides = text.lower().split("x")
        if len(sides) > 2 or not all(side.isdecimal() and int(side) for side in sides):
            raise ValueError(f"size {text!r} must be pixels per side or HEIGHTxWIDTH, such as 448 or 224x448")
        return cls(int(sides[0]), int(sides[-1]))


@dataclass(frozen=True)
class Object:
    """One object of an image.

    Attributes:
        name: as in "red kangaroo", no article.
        mask: if known.
        confidence: probability that a model found it where it is, if it is calibrated; else None.
        role: of an element of a page, as ARIA names it ("button", "searchbox"), or "icon".
        label: of an element that a model found: what is written on it or beside it, or what its icons show.
    """

    name: str
    box: Box
    mask: Mask | None = None
    confidence: float | None = None
    role: str = ""
    label: str = ""

    @property
    def is_icon(self) -> bool:
        """Whether it is an icon of a page, which may lie in another element."""
        return self.role == "icon"

    def moved(self, down: float, right: float) -> Object:
        """The object, which has no mask, moved by so many pixels."""
        ymin, xmin, ymax, xmax = self.box
        return replace(self, mask=None, box=Box(ymin + down, xmin + right, ymax + down, xmax + right))

    def scaled(self, factor: int) -> Object:
        """The object in the image enlarged ``factor`` times."""
        mask = None if self.mask is None else self.mask.repeat(factor, axis=0).repeat(factor, axis=1)
        return replace(self, mask=mask, box=Box(*(factor * edge for edge in self.box)))


class Word(NamedTuple):
    """A word of a page and its box: from .85 of the font size above the baseline to .25 below it."""

    text: str
    box: Box


@dataclass(frozen=True)
class Line:
    """Words of a page that stand side by side, without a gap that separates columns.

    Attributes:
        words: at least one, in the order in which they are read.
        readable: they are drawn in that order; text from right to left is not, nor is text that is mixed with it.
    """

    words: Sequence[Word]
    readable: bool = True

    @property
    def text(self) -> str:
        """The words, with a space between two."""
        return " ".join(word.text for word in self.words)

    @property
    def box(self) -> Box:
        """The smallest box around all words."""
        return around(word.box for word in self.words)


def around(boxes: Iterable[Box]) -> Box:
    """The smallest box around ``boxes``, at least one."""
    tops, lefts, bottoms, rights = zip(*boxes, strict=True)
    return Box(min(tops), min(lefts), max(bottoms), max(rights))


@dataclass(frozen=True)
class Example:
    """One example. Fields that a source does not know stay empty; tasks require those that they need.

    Attributes:
        key: unique name within its source, for logs and the quarantine.
        images: frames in order; one for an image, none for text alone.
        captions: language code -> captions in that language.
        question, answers: for question answering; several answers are several annotators.
        question_kind: slice under which an answer is scored ("count", "where", ...).
        objects: every annotated object.
        expression, referred: a referring expression and the indices into ``objects`` that it names.
        text: the text in the image (OCR), or the document of a text-only example.
        label: class name, for classification.
        lang: language of ``question``, ``answers`` and ``text``.
        vocabulary: names of objects that images of this source can have (negatives of object-aware questions).
        lines: every line of text on a page.
        ignored: places that may hold what is not annotated: text that is not in ``lines``, things that are not in
            ``objects``.
        files: paths of the images, or of the video, as the source names them.
        original: height and width of the first image on disk, if ``images`` were decoded smaller; coordinates are
            in pixels of this size.
    """

    key: str
    images: Sequence[Image] = ()
    captions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    question: str = ""
    answers: Sequence[str] = ()
    question_kind: str = ""
    objects: Sequence[Object] = ()
    expression: str = ""
    referred: Sequence[int] = ()
    text: str = ""
    label: str = ""
    lang: str = "en"
    vocabulary: Sequence[str] = ()
    lines: Sequence[Line] = ()
    ignored: Sequence[Box] = ()
    files: Sequence[str] = ()
    original: Size | None = None

    @property
    def size(self) -> Size:
        """Height and width that coordinates refer to; raises ``ValueError`` without an image."""
        if self.original is not None:
            return self.original
        if not self.images:
            raise ValueError(f"sample {self.key} has no image")
        height, width = self.images[0].shape[:2]
        return Size(height, width)
