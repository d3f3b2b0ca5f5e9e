"""Boxes as text: "348 543 684 664", or "<loc0348><loc0543><loc0684><loc0664>", and back to pixels.

Order is ymin xmin ymax xmax, everywhere. A coordinate becomes the bin ``round(coordinate / side * (bins - 1))``,
clipped to the image, and is read back as ``bin / (bins - 1) * side``, at most half a bin off. (PaLI-3 section 3
writes coordinates as text; location tokens are the format of ``big_vision/pp/tokenizer.py``.)
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Coordinates = tuple[float, float, float, float]
"""ymin, xmin, ymax, xmax in pixels."""

_NUMBER = re.compile(r"([0-9]{1,5})")
_LOCATION = re.compile(r"<loc([0-9]{4})>")
_LOCATION_OR_WORD = re.compile(r"<loc[0-9]{4}>|(?:(?!<loc[0-9]{4}>)\S)+")


@dataclass(frozen=True)
class LocationCodec:
    """Writes and reads boxes as text."""

    bins: int = 1000  # positions along each side, 2 to 10,000
    style: Literal["text", "token"] = "text"  # "text" for plain integers, "token" for location tokens
    joiner: str = " "  # between the objects of a detection answer

    def __post_init__(self) -> None:
        if not 2 <= self.bins <= 10_000:
            raise ValueError(f"bins is {self.bins}; it must lie between 2 and 10000")
        if self.style not in ("text", "token"):
            raise ValueError(f"style is {self.style!r}; it must be 'text' or 'token'")

    def encode(self, box: Sequence[float], size: tuple[int, int]) -> str:
        """Write a box.

        Args:
            box: ymin, xmin, ymax, xmax in pixels; parts outside the image are cut off.
            size: height and width of the image in pixels.

        Raises:
            ValueError: the box is empty, not finite, or so thin that two opposite edges fall into one bin.
        """
        if len(box) != 4 or not all(map(math.isfinite, box)):
            raise ValueError(f"box {tuple(box)} is not four finite numbers")
        ymin, xmin, ymax, xmax = bins = [
            self._nearest(x, side) for x, side in zip(box, (*size, *size), strict=True)
        ]
        if ymax <= ymin or xmax <= xmin:
            raise ValueError(f"box {tuple(box)} is empty in {self.bins} bins of an image of {tuple(size)}")
        return self._spell(bins)

    def widened(self, box: Sequence[float], size: tuple[int, int]) -> Coordinates:
        """The box, of which sides so thin that :meth:`encode` refuses them are one bin wide, around its centre.

        A box without area in the image stays without it.
        """
        edges = [*box]
        for axis, side in enumerate(size):
            low, high = max(edges[axis], 0), min(edges[axis + 2], side)
            if low < high and self._nearest(low, side) == self._nearest(high, side):
                first = min(max(int((low + high) / 2 / side * (self.bins - 1)), 0), self.bins - 2)
                edges[axis], edges[axis + 2] = (self._edge(each, side) for each in (first, first + 1))
        ymin, xmin, ymax, xmax = edges
        return ymin, xmin, ymax, xmax

    def decode(self, text: str, size: tuple[int, int]) -> Coordinates:
        """Read a text that is exactly one box, into pixels of an image of ``size`` (height, width).

        Raises:
            ValueError: the text is not the four bins of a non-empty box.
        """
        words = self.words(text)
        if len(words) != 4:
            raise ValueError(f"a box is four coordinates, not {len(words)} words: {text!r}")
        return self._box(words, 0, size)

    def encode_named(self, boxes: Iterable[tuple[Sequence[float], str]], size: tuple[int, int]) -> str:
        """Write a detection answer, "ymin xmin ymax xmax name ymin xmin ymax xmax name"; see :meth:`encode`.

        Raises:
            ValueError: a box cannot be written, or a name would be read back as coordinates: it is empty,
                starts with a coordinate, or holds four in a row; or it holds what separates objects.
        """
        return self.joiner.join(f"{self.encode(box, size)} {self._name(name)}" for box, name in boxes)

    def decode_named(
        self, text: str, size: tuple[int, int], *, strict: bool = False
    ) -> list[tuple[Coordinates, str]]:
        """Read a detection answer.

        A name ends where four coordinates follow, so it may hold numbers ("boeing 747") but not start with one.

        Args:
            text: what :meth:`encode_named` writes, or any answer of a model.
            size: height and width of the image in pixels.
            strict: raise on the first mistake; otherwise skip malformed parts (words before the first box; boxes
                that are empty, out of range or without a name).
        """
        return [(box, name) for box, name, _ in self.find_named(text, size, strict=strict)]

    def find_named(
        self, text: str, size: tuple[int, int], *, strict: bool = False
    ) -> list[tuple[Coordinates, str, range]]:
        """Like :meth:`decode_named`, with the range of each object's words within :meth:`words`.

        The first four words of a range are the coordinates.
        """
        words = self.words(text)
        starts = list(self._box_starts(words))
        if strict and words and (not starts or starts[0] != 0):
            raise ValueError(f"word 1 ({words[0]!r}): four coordinates are expected here")
        found = []
        for start, end in pairwise([*starts, len(words)]):
            try:
                box = self._box(words[start : start + 4], start, size)
                if self.style == "token":
                    end = self._cut_off(words, start + 4, end, strict)
                end -= words[end - 1] == self.joiner.strip()
                name = " ".join(words[start + 4 : end]).removesuffix(self.joiner.strip())
                if not name:
                    raise ValueError(f"word {start + 4}: no name after these coordinates")
            except ValueError:
                if strict:
                    raise
                continue
            found.append((box, name, range(start, end)))
        return found

    def _cut_off(self, words: Sequence[str], start: int, end: int, strict: bool) -> int:
        """The end of a name without the first coordinates of a box that was cut off."""
        while end > start and _LOCATION.fullmatch(words[end - 1]):
            if strict:
                raise ValueError(f"word {end}: four coordinates are expected here")
            end -= 1
        return end

    def words(self, text: str) -> list[str]:
        """The words of an answer; each location token is a word, even without spaces around it."""
        return text.split() if self.style == "text" else _LOCATION_OR_WORD.findall(text)

    def spelled(self, name: str) -> str:
        """A name as it is written and read back: its words, with one space between them."""
        return " ".join(self.words(name))

    def _spell(self, bins: Sequence[int]) -> str:
        """A box, whose bins are those of ymin, xmin, ymax and xmax."""
        return " ".join(map(str, bins)) if self.style == "text" else "".join(f"<loc{b:04d}>" for b in bins)

    def _nearest(self, coordinate: float, side: int) -> int:
        """The bin of a coordinate; outside the image, the first or the last."""
        return min(max(round(coordinate / side * (self.bins - 1)), 0), self.bins - 1)

    def _edge(self, number: int, side: int) -> float:
        """The coordinate that a bin is read back as."""
        return number / (self.bins - 1) * side

    def _bin(self, word: str) -> int | None:
        """The bin that a word states, or ``None`` if it is not a coordinate."""
        match = (_NUMBER if self.style == "text" else _LOCATION).fullmatch(word)
        return int(match[1]) if match else None

    def _box(self, words: Sequence[str], position: int, size: tuple[int, int]) -> Coordinates:
        """Four words as a box; ``position`` of the first word is for error messages."""
        coordinates = []
        for offset, (word, side) in enumerate(zip(words, (*size, *size), strict=True), position + 1):
            number = self._bin(word)
            if number is None or number >= self.bins:
                raise ValueError(f"word {offset} ({word!r}) is not a coordinate from 0 to {self.bins - 1}")
            coordinates.append(self._edge(number, side))
        ymin, xmin, ymax, xmax = coordinates
        if ymax <= ymin or xmax <= xmin:
            raise ValueError(f"word {position + 1}: the box {' '.join(words)} is empty")
        return ymin, xmin, ymax, xmax

    def _box_starts(self, words: Sequence[str]) -> Iterator[int]:
        """Where boxes start: the last four of each run of at least four coordinates."""
        run = 0
        for position, word in enumerate([*words, ""]):
            if self._bin(word) is not None:
                run += 1
                continue
            if run >= 4:
                yield position - 4
            run = 0

    def _name(self, name: str) -> str:
        words, between = self.words(name), self.joiner.strip()
        if not words or self._bin(words[0]) is not None or any(self._box_starts(words)):
            raise ValueError(f"name {name!r} would be read as coordinates: it must start with a word")
        if between and between in name:
            raise ValueError(f"name {name!r} would be read as two: leave out {between!r}")
        return self.spelled(name)
