"""Places as tokens `<loc_0>` to `<loc_999>`, behind what lies there: "dog<loc_52><loc_333><loc_932><loc_774>".

A place is x before y. A coordinate becomes the bin in which it lies, ``floor(coordinate / side * bins)``, and is
read back as the centre of that bin, at most half a bin off.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from openpali.text.locations import Coordinates, LocationCodec

BINS = 1000
Polygon = NDArray[np.float64]  # [N, 2], corners (x, y) in pixels

REGION = re.compile(r"(?:<loc_[0-9]{1,3}>){4}")
_PLACE = re.compile(r"<loc_([0-9]{1,4})>")
_PLACES = re.compile(r"(?:<loc_[0-9]{1,4}>)+")
_PLACE_OR_WORD = re.compile(r"<loc_[0-9]{1,4}>|(?:(?!<loc_[0-9]{1,4}>)\S)+")


@dataclass(frozen=True)
class NamedFirst(LocationCodec):
    """Writes and reads boxes behind their names; a name may have several, and those without one come first."""

    bins: int = BINS
    # of a region: 2 of a box, top left and bottom right, or 4 of a quadrilateral, which is read as the box around
    # it
    corners: int = 2

    def find_named(
        self, text: str, size: tuple[int, int], *, strict: bool = False
    ) -> list[tuple[Coordinates, str, range]]:
        words, found, name_at = self.words(text), [], 0
        numbers = [self._bin(word) for word in words]
        ends = [i + 1 for i, (one, two) in enumerate(pairwise([*numbers, None])) if one is not None and two is None]
        for end in ends:
            start = next((i for i in range(name_at, end) if numbers[i] is not None), end)
            name, step = " ".join(words[name_at:start]), 2 * self.corners
            if strict and (end - start) % step:
                raise ValueError(f"word {start + 1}: {end - start} places are no regions of {step}")
            for at in range(start, end - step + 1, step):
                try:
                    box = self._box(words[at : at + step], at, size)
                except ValueError:
                    if strict:
                        raise
                    continue
                found.append((box, name, range(name_at if at == start else at, at + step)))
            name_at = end
        if strict and name_at < len(words):
            raise ValueError(f"word {name_at + 1} ({words[name_at]!r}): no places follow this name")
        return found

    def encode_named(self, boxes: Iterable[tuple[Sequence[float], str]], size: tuple[int, int]) -> str:
        return self.joiner.join(f"{self._name(name)}{self.encode(box, size)}" for box, name in boxes)

    def words(self, text: str) -> list[str]:
        return _PLACE_OR_WORD.findall(text)

    def _spell(self, bins: Sequence[int]) -> str:
        top, left, bottom, right = bins
        return "".join(f"<loc_{number}>" for number in (left, top, right, bottom))

    def _nearest(self, coordinate: float, side: int) -> int:
        return _bin_of(coordinate, side, self.bins)

    def _edge(self, number: int, side: int) -> float:
        return (number + 0.5) / self.bins * side

    def _bin(self, word: str) -> int | None:
        match = _PLACE.fullmatch(word)
        return int(match[1]) if match else None

    def _box(self, words: Sequence[str], position: int, size: tuple[int, int]) -> Coordinates:
        numbers = [number for word in words if (number := self._bin(word)) is not None and number < self.bins]
        if len(numbers) < len(words):
            raise ValueError(f"word {position + 1}: {' '.join(words)} are no places from 0 to {self.bins - 1}")
        corners = _corners(numbers, size, self.bins)
        (xmin, ymin), (xmax, ymax) = corners.min(0), corners.max(0)
        if self.corners == 2:
            (xmin, ymin), (xmax, ymax) = corners
        if ymax <= ymin or xmax <= xmin:
            raise ValueError(f"word {position + 1}: the box {' '.join(words)} is empty")
        return float(ymin), float(xmin), float(ymax), float(xmax)

    def _name(self, name: str) -> str:
        words = self.words(name)
        if not words or any(self._bin(word) is not None for word in words):
            raise ValueError(f"name {name!r} would be read as a place: it must have words alone")
        return " ".join(words)


@dataclass(frozen=True)
class Outlines:
    """Writes and reads objects as polygons: "<loc_52><loc_333><loc_932><loc_774>...<sep>..."."""

    bins: int = BINS  # positions along each side
    between: str = "<sep>"  # separates the polygons of an object
    around: tuple[str, str] = ("<poly>", "</poly>")  # begins and ends an object, where there are several

    def encode(self, objects: Sequence[Sequence[Polygon]], size: tuple[int, int]) -> str:
        """Write the polygons of each object in an image of ``size`` (height, width)."""
        height, width = size
        written = [
            self.between.join(
                "".join(
                    f"<loc_{_bin_of(x, width, self.bins)}><loc_{_bin_of(y, height, self.bins)}>" for x, y in corners
                )
                for corners in polygons
            )
            for polygons in objects
        ]
        if len(written) == 1:
            return written[0]
        begin, end = self.around
        return "".join(f"{begin}{each}{end}" for each in written)

    def find(self, text: str, size: tuple[int, int]) -> list[tuple[list[Polygon], tuple[int, int]]]:
        """The polygons of each object of any answer, and where in the text it starts and ends.

        What is no polygon of at least three corners is left out, and so is half a corner.
        """
        begin, end = map(re.escape, self.around)
        parts = [(m.start(1), m.end(1)) for m in re.finditer(rf"{begin}(.*?)(?:{end}|$)", text, re.DOTALL)]
        found = []
        for start, stop in parts or [(0, len(text))]:
            runs = ([*map(int, _PLACE.findall(run[0]))] for run in _PLACES.finditer(text, start, stop))
            polygons = [
                _corners(numbers[: len(numbers) // 2 * 2], size, self.bins)
                for numbers in runs
                if len(numbers) >= 6 and max(numbers) < self.bins
            ]
            if polygons:
                found.append((polygons, (start, stop)))
        return found


def _bin_of(coordinate: float, side: int, bins: int) -> int:
    """The bin in which a coordinate lies; outside the image, the first or the last."""
    return min(max(int(coordinate / side * bins // 1), 0), bins - 1)


def _corners(numbers: Sequence[int], size: tuple[int, int], bins: int) -> Polygon:
    """Bins, of x and y by turns -> corners in pixels of an image of ``size`` (height, width), ``[N, 2]``."""
    return (np.array(numbers, np.float64).reshape(-1, 2) + 0.5) / bins * (size[1], size[0])
