"""Polygons -> masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openpali.tasks.example import Mask, Size


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
