"""Polygons <-> masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openpali.tasks.example import Box, Mask, Size
from openpali.text.places import Outlines


@dataclass(frozen=True)
class Polygons:
    """The union of polygons; each is float ``[N, 2]``, corners (x, y) in pixels."""

    parts: Sequence[NDArray[np.float64]]

    def draw(self, size: Size) -> Mask:
        """Mask ``[H, W]`` of the pixels whose centre is inside a polygon (even-odd rule)."""
        mask = np.zeros(size, bool)
        for corners in self.parts:
            mask |= _fill(corners, size)
        return mask

    def resized(self, old: Size, new: Size) -> Polygons:
        """The polygons in the image of size ``old`` after it was resized to ``new``."""
        return Polygons(tuple(corners * (new.width / old.width, new.height / old.height) for corners in self.parts))

    def as_json(self) -> list[list[float]]:
        """As a record holds them: ``[x, y, x, y, ...]`` each, to a thousandth of a pixel."""
        return [[round(float(value), 3) for value in corners.ravel()] for corners in self.parts]


def outlined(text: str, size: Size, codec: Outlines) -> Iterator[tuple[str, Box, Polygons, tuple[int, int]]]:
    """Name, box and polygons of each object of an answer, and where in the text its polygons start and end.

    The name stands before the objects that have it, and is "" if none is written.
    """
    (begin, end), at, name = codec.around, 0, ""
    for polygons, (start, stop) in codec.find(text, size):
        name = text[at:start].replace(begin, "").replace(end, "").strip() or name
        at = stop
        corners = np.concatenate(polygons)
        (xmin, ymin), (xmax, ymax) = corners.min(0).tolist(), corners.max(0).tolist()
        if xmin < xmax and ymin < ymax:
            yield name, Box(ymin, xmin, ymax, xmax), Polygons(polygons), (start, stop)


def outlines(mask: Mask, tolerance: float = 0.0) -> list[NDArray[np.float64]]:
    """The outer outlines of a mask ``[H, W]``: polygons ``[N, 2]`` of (x, y) in pixels, the largest first.

    They run along the edges of pixels. Holes are left out, as those who write masks as polygons do.

    Args:
        tolerance: in pixels; corners that lie no further from the line between others are left out
            (Douglas and Peucker, 1973).
    """
    rings = [ring for ring in _rings(mask) if _area(ring) > 0]
    simple = [_simplified(ring, tolerance) for ring in sorted(rings, key=_area, reverse=True)]
    return [ring for ring in simple if len(ring) >= 3]


def _rings(mask: Mask) -> Iterator[NDArray[np.float64]]:
    """Closed ways along the edges of pixels with the mask to the right; where two meet, they turn right."""
    padded = np.pad(mask, 1).astype(np.int8)
    down, across = np.diff(padded, axis=0)[:, 1:-1], np.diff(padded, axis=1)[1:-1]
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}  # corner (x, y) -> where its edges go
    for (ys, xs), step, start in (
        ((down == 1).nonzero(), (1, 0), (0, 0)),  # the mask begins below: to the right
        ((down == -1).nonzero(), (-1, 0), (1, 0)),
        ((across == -1).nonzero(), (0, 1), (0, 0)),
        ((across == 1).nonzero(), (0, -1), (0, 1)),
    ):
        for y, x in zip(ys.tolist(), xs.tolist(), strict=True):
            steps.setdefault((x + start[0], y + start[1]), []).append(step)
    while steps:
        here = first = next(iter(steps))
        way, ring = steps[first][0], list[tuple[int, int]]()
        while True:
            ways = steps[here]
            right = (-way[1], way[0])
            turned = right if right in ways else ways[0]
            if turned != way or not ring:
                ring.append(here)
            ways.remove(turned)
            if not ways:
                del steps[here]
            way, here = turned, (here[0] + turned[0], here[1] + turned[1])
            if here == first:
                break
        yield np.array(ring, np.float64)


def _area(ring: NDArray[np.float64]) -> float:
    """Of a polygon; below 0 if it runs around a hole."""
    (x, y), (next_x, next_y) = ring.T, np.roll(ring, -1, axis=0).T
    return float((x * next_y - next_x * y).sum() / 2)


def _simplified(ring: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    if tolerance <= 0:
        return ring
    far = int(np.square(ring - ring[0]).sum(1).argmax())
    halves = ring[: far + 1], np.concatenate([ring[far:], ring[:1]])
    return np.concatenate([_between(half, tolerance)[:-1] for half in halves])


def _between(line: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    """The corners of a line that are needed to stay within a tolerance of it, its ends included."""
    needed = np.zeros(len(line), bool)
    needed[[0, -1]] = True
    parts = [(0, len(line) - 1)]
    while parts:  # no recursion: the edge of a dithered mask has thousands of corners
        first, last = parts.pop()
        along, away = line[last] - line[first], line[first : last + 1] - line[first]
        length = float(np.hypot(*along))
        across = (
            np.hypot(*away.T) if length == 0 else np.abs(along[0] * away[:, 1] - along[1] * away[:, 0]) / length
        )
        worst = int(across.argmax())
        if across[worst] > tolerance:
            needed[first + worst] = True
            parts += [(first, first + worst), (first + worst, last)]
    return line[needed]


def _fill(corners: NDArray[np.float64], size: Size) -> Mask:
    """Even-odd fill: each edge flips all pixels to its right in the rows whose centre it crosses."""
    flips = np.zeros((size.height, size.width + 1), np.int64)
    for (x, y), (next_x, next_y) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        top, bottom = np.clip(np.ceil(np.sort([y, next_y]) - 0.5), 0, size.height).astype(int)
        rows = np.arange(top, bottom)
        crossings = x + (rows + 0.5 - y) / (next_y - y) * (next_x - x) if len(rows) else np.empty(0)
        columns = np.clip(np.ceil(crossings - 0.5), 0, size.width).astype(int)
        flips[rows, columns] += 1
    inside: Mask = flips.cumsum(axis=1)[:, :-1] % 2 == 1
    return inside
