"""Boxes on images, in pixels and in the order (ymin, xmin, ymax, xmax); far edges are exclusive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Image = NDArray[np.uint8]  # [H, W, 3] RGB
Boxes = Sequence[Sequence[float]] | NDArray[np.floating[Any]]
Floats = NDArray[np.float64]


class Size(NamedTuple):
    """Height and width of an image in pixels."""

    height: int
    width: int


class AnyBox(Protocol):
    """What a :class:`Box` and the box of an annotation have."""

    @property
    def ymin(self) -> float: ...
    @property
    def xmin(self) -> float: ...
    @property
    def ymax(self) -> float: ...
    @property
    def xmax(self) -> float: ...
    @property
    def height(self) -> float: ...
    @property
    def centre(self) -> tuple[float, float]: ...


class Box(NamedTuple):
    """A box in pixels."""

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
    def centre(self) -> tuple[float, float]:
        """(y, x) of its centre, where one would click."""
        return (self.ymin + self.ymax) / 2, (self.xmin + self.xmax) / 2

    def within(self, size: Size) -> Box:
        """The part of it that is in an image of this size; without area if none is."""
        return Box(*(min(max(0.0, edge), float(side)) for edge, side in zip(self, (*size, *size), strict=True)))


def around(boxes: Iterable[Sequence[float]]) -> Box:
    """The smallest box around ``boxes``, at least one."""
    tops, lefts, bottoms, rights = zip(*boxes, strict=True)
    return Box(min(tops), min(lefts), max(bottoms), max(rights))


def holds_centre(box: Sequence[float], other: Sequence[float]) -> bool:
    """Whether the centre of ``other`` is in ``box``."""
    y, x = (other[0] + other[2]) / 2, (other[1] + other[3]) / 2
    return box[0] <= y <= box[2] and box[1] <= x <= box[3]


def box_iou(a: Boxes, b: Boxes) -> Floats:
    """Intersection over union of each box of ``a`` ``[N, 4]`` with each of ``b`` ``[M, 4]``: ``[N, M]`` in 0..1."""
    one, other = (np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in (a, b))
    low = np.maximum(one[:, None, :2], other[:, :2])
    shared = (np.minimum(one[:, None, 2:], other[:, 2:]) - low).clip(0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def distinct(boxes: Boxes, most: float) -> NDArray[np.int64]:
    """Non-maximum suppression of boxes ``[N, 4]``, the best first.

    Returns:
        Indices of the boxes to keep, in their order: none has an IoU above ``most`` with one before it.
    """
    same = box_iou(boxes, boxes) > most
    left, kept = np.ones(len(boxes), bool), []
    for number in range(len(boxes)):
        if left[number]:
            kept.append(number)
            left &= ~same[number]
    return np.array(kept, np.int64)


def roots_of(count: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each of the nodes ``0 .. count - 1`` the first of its connected component, under edges ``[E, 2]``."""
    roots = np.arange(count)
    while True:
        ends = roots[pairs]  # [E, 2]
        if (ends[:, 0] == ends[:, 1]).all():
            return roots
        np.minimum.at(roots, ends.max(1), ends.min(1))
        while (shorter := roots[roots]).tobytes() != roots.tobytes():
            roots = shorter


def connected(count: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Connected components of nodes ``0 .. count - 1`` under the edges ``pairs``, each sorted, by their first."""
    groups: dict[int, list[int]] = {}
    for node, root in enumerate(roots_of(count, np.array([*pairs], np.int64).reshape(-1, 2)).tolist()):
        groups.setdefault(root, []).append(node)
    return [*groups.values()]


def chunked(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The rows, ``size`` at a time; the last may be fewer."""
    return (rows[start : start + size] for start in range(0, len(rows), size))
