"""Polygons and COCO run lengths -> masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openpali.tasks.example import Mask, Size
from openpali.tasks.polygons import Polygons

FAR = 1e9  # pixels from the image that a corner may be


@dataclass(frozen=True)
class RunLengths:
    """COCO's RLE: lengths of runs of outside, inside, outside, ..., down the columns of an image of ``size``."""

    size: Size
    counts: Sequence[int]

    def draw(self, size: Size) -> Mask:
        """Mask ``[H, W]``."""
        if size != self.size:
            raise ValueError(f"the mask is {_by(self.size)}, but the image is {_by(size)}")
        inside = np.arange(len(self.counts)) % 2 == 1
        return np.repeat(inside, self.counts).reshape(size.width, size.height).T

    @classmethod
    def of(cls, mask: Mask) -> RunLengths:
        """The run lengths of a mask ``[H, W]``."""
        flat = mask.T.ravel()
        ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        counts = np.diff([0, *ends, len(flat)]).tolist()
        return cls(Size(*mask.shape), (0, *counts) if flat[0] else tuple(counts))

    def resized(self, old: Size, new: Size) -> RunLengths:
        """The mask in the image of size ``old`` after it was resized to ``new``: by the nearest pixel."""
        rows, columns = ((2 * np.arange(n) + 1) * o // (2 * n) for o, n in zip(old, new, strict=True))
        return RunLengths.of(self.draw(old)[np.ix_(rows, columns)])

    def as_json(self) -> dict[str, list[int]]:
        """As a record holds them, not compressed."""
        return {"size": list(self.size), "counts": list(self.counts)}


Shape = Polygons | RunLengths


def read_polygons(value: Sequence[Any]) -> Polygons:
    """One polygon, or a list of them; each ``[x, y, x, y, ...]`` as in COCO, or ``[[x, y], [x, y], ...]``.

    Raises:
        ValueError: ``value`` is none of these, or a polygon has fewer than three corners.
    """
    parts = [value] if value and (_is_number(value[0]) or _is_point(value[0])) else value
    return Polygons(tuple(_corners(part) for part in parts))


def read_run_lengths(value: dict[str, Any]) -> RunLengths:
    """COCO's ``{"size": [height, width], "counts": [...] or "compressed"}``.

    Raises:
        ValueError: ``value`` is damaged, or its runs do not add up to the size.
    """
    size, counts = value.get("size"), value.get("counts")
    if set(value) != {"size", "counts"} or not isinstance(size, list) or len(size) != 2:
        raise ValueError('run lengths are {"size": [height, width], "counts": ...}')
    if isinstance(counts, str):
        counts = decompress_counts(counts)
    numbers: list[Any] = [*size, *counts] if isinstance(counts, list) else [None]
    if not all(isinstance(n, int) and n >= 0 for n in numbers) or sum(numbers[2:]) != size[0] * size[1]:
        raise ValueError(f"the counts are not run lengths that add up to the size {size}")
    return RunLengths(Size(*size), tuple(numbers[2:]))


def decompress_counts(text: str) -> list[int]:
    """Run lengths from COCO's compressed string.

    Each number is written in base 32, least significant digit first, one character per digit: bit 5 says that more
    digits follow, bit 4 of the last digit is the sign. From the fourth number on, the number is the difference to
    the one two places before.
    """
    counts: list[int] = []
    number = shift = 0
    for character in text:
        digit = ord(character) - 48
        if not 0 <= digit < 64:
            raise ValueError(f"{character!r} is not valid in compressed run lengths")
        number |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            if digit & 16:
                number -= 1 << shift
            counts.append(number + (counts[-2] if len(counts) > 2 else 0))
            number = shift = 0
    if shift:
        raise ValueError("the compressed run lengths end within a number")
    return counts


def _corners(part: Any) -> NDArray[np.float64]:
    flat = part
    if isinstance(part, list) and part and all(_is_point(point) for point in part):
        flat = [coordinate for point in part for coordinate in point]
    if not isinstance(flat, list) or len(flat) < 6 or len(flat) % 2 or not all(map(_is_number, flat)):
        raise ValueError("a polygon needs at least three corners, [x, y, x, y, x, y, ...] or [[x, y], ...]")
    return np.array(flat, np.float64).reshape(-1, 2)


def _is_number(value: Any) -> bool:
    """Whether a value is a coordinate: beyond :data:`FAR`, floats would overflow."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -FAR <= value <= FAR


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _by(size: Size) -> str:
    return f"{size.height} high and {size.width} wide"
