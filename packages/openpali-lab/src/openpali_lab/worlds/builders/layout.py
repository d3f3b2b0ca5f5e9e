"""What is written on a page and where: words to lines, and the record that a page becomes."""

from __future__ import annotations

import io
import itertools
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openpali.tasks.example import Box, Line, Word, around

GAP = 0.9  # widest gap within a line, in font sizes: wider ones separate columns
_CONTRAST = 32  # least range of a colour, of 256, in the box of a word that one can read
_FAINT = 12  # and in the box of an element that one can see
_UNITS = "µμΩΔπ"  # stand beside Latin letters
_TOUCHING = 0.12  # widest gap between parts of one word, in font sizes


@dataclass
class Written:
    """A word as a browser or a PDF file gives it.

    Attributes:
        box: in pixels of the page; from .85 of the font size above the baseline to .25 below it.
        size: font size in pixels.
        joined: no space stands before it in its piece of text.
        ends: no space stands after it in its piece of text.
        rtl: it stands in text from right to left.
    """

    text: str
    box: Box
    size: float
    joined: bool = False
    ends: bool = False
    rtl: bool = False


@dataclass(frozen=True)
class Shot:
    """A window or a page: a PNG file and its truth, in pixels of the image.

    Attributes:
        ignored: places that may hold text which is not in ``lines``, such as images.
        elements: role, name and box of what one can point at, and ``seen``: whether it is not covered.
        icons: name of the icon, or "", and box.
    """

    png: bytes
    lines: Sequence[Line]
    ignored: Sequence[Box]
    elements: Sequence[Mapping[str, Any]] = field(default_factory=list)
    icons: Sequence[Mapping[str, Any]] = field(default_factory=list)

    def legible(self) -> Shot:
        """The same without words that nobody can read, of too little contrast or cut by an edge, and without those
        whose text is wrong: those places are ignored. Elements and icons of one colour are left out."""
        with Image.open(io.BytesIO(self.png)) as png:
            pixels = np.asarray(png.convert("RGB"))
        lines: list[Line] = []
        ignored = list(self.ignored)
        for line in self.lines:
            for legible, words in itertools.groupby(
                line.words, lambda word: _is_legible(pixels, word.box) and has_one_script(word.text)
            ):
                if legible:
                    lines.append(replace(line, words=list(words)))
                else:
                    ignored += [word.box for word in words]
        elements = [thing for thing in self.elements if _contrast(pixels, thing["box"]) >= _FAINT]
        icons = [thing for thing in self.icons if _contrast(pixels, thing["box"]) >= _FAINT]
        return replace(self, lines=lines, ignored=ignored, elements=elements, icons=icons)

    def record(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """A record of docs/data.md: elements and icons are its objects."""
        elements = [e for e in self.elements if e["seen"]]
        icons = [{**icon, "role": "icon"} for icon in self.icons]
        objects = [
            {"name": thing["name"] or thing["role"], "role": thing["role"], "box": thing["box"]}
            for thing in (*elements, *icons)
            if _is_box(thing["box"])
        ]
        lines = [
            {"words": [word._asdict() for word in line.words], "readable": line.readable} for line in self.lines
        ]
        ignored = [box for box in self.ignored if _is_box(box)]
        return {"lines": lines, "ignored": ignored, "objects": objects, "about": about}


def _is_legible(pixels: NDArray[np.uint8], box: Box) -> bool:
    """Whether a word of an image ``[H, W, 3]`` is whole and differs from what is around it."""
    height, width = pixels.shape[:2]
    whole = box.xmin > -1 and box.xmax < width + 1 and box.ymin > -1 and box.ymax < height + 1
    return whole and _contrast(pixels, box) >= _CONTRAST


def _contrast(pixels: NDArray[np.uint8], box: Sequence[float]) -> int:
    """Largest range of a colour in a box of an image ``[H, W, 3]``."""
    ymin, xmin, ymax, xmax = (max(0, round(side)) for side in box)
    seen = pixels[ymin:ymax, xmin:xmax].reshape(-1, 3)
    return int(np.ptp(seen, 0).max()) if len(seen) else 0


def has_one_script(text: str) -> bool:
    """Whether a word has letters of one script: PDF files may call a Latin letter Greek or Cyrillic."""
    scripts = {unicodedata.name(character, "?").split()[0] for character in text if character not in _UNITS}
    return len(scripts & {"LATIN", "GREEK", "CYRILLIC"}) <= 1


def group(words: Sequence[Written]) -> list[Line]:
    """Lines of ``words``, which are in reading order, or for scripts from right to left in that of their text.

    Two neighbours are in one line if they stand at one height and no column is between them. Parts of a word
    that are set in two styles become one word. Words without a width or a height are left out.
    """
    lines: list[list[Written]] = []
    for word in words:
        if not _is_box(word.box):
            continue
        last = lines[-1][-1] if lines else None
        if last is None or not _beside(last, word):
            lines.append([word])
        elif word.joined and last.ends and abs(_gap(last, word)) < _TOUCHING * word.size:
            lines[-1][-1] = _join(last, word)
        else:
            lines[-1].append(word)
    return [Line([Word(w.text, w.box) for w in line], not any(w.rtl for w in line)) for line in lines]


def _join(left: Written, right: Written) -> Written:
    box = around([left.box, right.box])
    return Written(left.text + right.text, box, max(left.size, right.size), left.joined, right.ends, left.rtl)


def _gap(left: Written, right: Written) -> float:
    """Pixels between two words; for a word that stands left of the one before it, the gap there."""
    if right.box.xmin >= left.box.xmin:
        return right.box.xmin - left.box.xmax
    return left.box.xmin - right.box.xmax


def _beside(one: Written, other: Written) -> bool:
    overlap = min(one.box.ymax, other.box.ymax) - max(one.box.ymin, other.box.ymin)
    size = min(one.size, other.size)
    return overlap > 0.6 * size and -0.2 * size <= _gap(one, other) <= GAP * max(one.size, other.size)


def _is_box(box: Box) -> bool:
    return box.ymin < box.ymax and box.xmin < box.xmax
