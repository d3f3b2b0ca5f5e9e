"""Region proposals on a screen: lines of text, flat regions, and figures that stand out of them.

Screens are drawn of rectangles of one colour and of small figures. Segmentation places these to the pixel, which a
network learns slowly; what they are is left to the network, as in UIED (arXiv 2008.05132).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage

from openpali_screen.geometry import Image, distinct, roots_of

KINDS = ("text", "region", "figure")
"""Of proposals: a line of text, a region of one colour, and what has several."""
VIEWS = 6
"""Of a proposal: itself, with what is around it, its left and its right end in true proportions, and what is small
and next to it on the left and on the right, such as the arrow of an entry that opens a menu."""
MOST = 320  # proposals of a screen beside its lines; the largest are kept
_FLAT = 8  # of 255: most difference of neighbouring pixels of a region
_REGION = 8  # least side of a region in pixels
_FEWEST = 40  # pixels of a region
_FIGURE = 5  # least side of a figure in pixels
_REACH = 2  # pixels across which parts are one figure
_MOST_AREA = 0.8  # of the screen; what is larger is its ground
_TEXT = 0.7  # a figure with this share in a line of text is a part of the line
_AROUND_TEXT = 2.0  # pixels by which text reaches beyond its line
_TOGETHER = 4096  # figures that are compared with all lines at a time
_SAME = 0.85  # two proposals with this IoU are one
_MARGINS = ((2.0, 0.1), (16.0, 0.4))  # around a proposal in each view: pixels, and heights of it
_WIDE = 4.0  # heights of a proposal that count as its width at most, for margins
_SMALL = 1.6  # heights of a proposal; what is beside it is no larger
_NEAR = 12.0  # heights up to what is beside it
_SQUARE = 1.5  # by which the view of it is larger than it
_BEYOND = 64  # pixels by which views reach beyond the screen


class Proposals(NamedTuple):
    """What may be an element.

    Attributes:
        boxes: float32 ``[P, 4]``, [ymin, xmin, ymax, xmax] in pixels.
        kinds: int64 ``[P]``, indices into :data:`KINDS`.
    """

    boxes: NDArray[np.float32]
    kinds: NDArray[np.int64]


def propose(image: Image, lines: Sequence[Sequence[float]]) -> Proposals:
    """The proposals of a screen ``[H, W, 3]`` uint8 with these lines of text, which come first."""
    edges = _edges(image)
    regions = _components(~edges, _FEWEST, diagonal=False)
    regions[:, 2:] += 1  # an edge is the last pixel before a change
    near = _widened(_widened(edges).T).T
    joined, single = (_components(each, _FIGURE, diagonal=True) for each in (near, edges))
    joined += np.array([_REACH, _REACH, 1 - _REACH, 1 - _REACH], np.float32)
    single[:, 2:] += 1
    figures = np.concatenate((joined, single))
    figures = figures[_sides(figures).min(1) >= _FIGURE]
    regions = regions[_sides(regions).min(1) >= _REGION]

    text = np.array(lines, np.float32).reshape(-1, 4)
    groups = [_beside(boxes, text, image.shape[0] * image.shape[1]) for boxes in (regions, figures)]
    others = np.concatenate(groups)
    kinds = np.repeat([KINDS.index("region"), KINDS.index("figure")], [len(group) for group in groups])
    kept = _distinct(others)
    return Proposals(
        np.concatenate((text, others[kept])), np.concatenate((np.zeros(len(text), np.int64), kinds[kept]))
    )


def views(image: Image, boxes: NDArray[np.float32], side: int) -> Image:
    """Six crops of each proposal: alone, with context, left and right end, left and right neighbour; black where
    there is none: uint8 ``[P, 6, side, side, 3]``."""
    padded = np.pad(image, ((_BEYOND, _BEYOND), (_BEYOND, _BEYOND), (0, 0)), mode="edge")
    screen = PilImage.fromarray(padded)
    seen = np.zeros((len(boxes), VIEWS, side, side, 3), np.uint8)
    placed = (boxes + _BEYOND).tolist()
    for own, box, near in zip(seen, placed, neighbours(boxes).tolist(), strict=True):
        alone, around = (_grown(box, *margin) for margin in _MARGINS)
        ymin, xmin, ymax, xmax = alone[0], max(0, alone[1]), alone[2], min(screen.width, alone[3])
        start, end = (ymin, xmin, ymax, xmin + ymax - ymin), (ymin, xmax - ymax + ymin, ymax, xmax)
        beside = [None if number < 0 else _square(placed[number]) for number in near]
        for view, shown in zip(own, (alone, around, start, end, *beside), strict=True):
            if shown is None:
                continue
            top, left, bottom, right = shown
            part = max(0, left), max(0, top), min(screen.width, right), min(screen.height, bottom)
            view[:] = screen.resize((side, side), PilImage.Resampling.BILINEAR, part, reducing_gap=1.5)
    return seen


def neighbours(boxes: NDArray[np.float32]) -> NDArray[np.int64]:
    """For each box ``[P, 4]`` the number of what is next to it in its row on the left and on the right, ``[P, 2]``;
    -1 where that is not small, or nothing is."""
    ymin, xmin, ymax, xmax = boxes.T
    middle, height = (ymin + ymax) / 2, ymax - ymin
    in_row = (middle >= ymin[:, None]) & (middle <= ymax[:, None])  # [P, P]: the second in the row of the first
    small = np.maximum(height, xmax - xmin) <= _SMALL * height[:, None]
    found = np.full((len(boxes), 2), -1)
    for side, gap in enumerate((xmin[:, None] - xmax, xmin - xmax[:, None])):
        gap = np.where(in_row & (gap >= -1) & (gap <= _NEAR * height[:, None]), gap, np.inf)
        nearest = gap.argmin(1) if len(boxes) else np.zeros(0, np.int64)
        rows = np.arange(len(boxes))
        found[:, side] = np.where(np.isfinite(gap[rows, nearest]) & small[rows, nearest], nearest, -1)
    return found


def _square(box: Sequence[float]) -> tuple[float, float, float, float]:
    """A square around a box."""
    ymin, xmin, ymax, xmax = box
    y, x, half = (ymin + ymax) / 2, (xmin + xmax) / 2, _SQUARE * max(ymax - ymin, xmax - xmin) / 2
    return y - half, x - half, y + half, x + half


def _grown(box: Sequence[float], least: float, share: float) -> tuple[float, float, float, float]:
    """A box with so many pixels around it and this share of its sides."""
    ymin, xmin, ymax, xmax = box
    down = least + share * (ymax - ymin)
    across = least + share * min(xmax - xmin, _WIDE * (ymax - ymin))
    return ymin - down, xmin - across, ymax + down, xmax + across


def shares(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """The share of each box's area that is in each other: ``[P, 4]``, ``[M, 4]`` -> ``[P, M]``."""
    first = np.maximum(boxes[:, None, :2], others[None, :, :2])
    last = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = (last - first).clip(0).prod(-1)  # [P, M]
    return np.asarray(shared / _sides(boxes).prod(1).clip(1e-6)[:, None])


def _edges(image: Image) -> NDArray[np.bool_]:
    """Pixels that differ from the one to the right or below, ``[H, W]``."""
    edges = np.zeros(image.shape[:2], bool)
    for channel in np.ascontiguousarray(image.transpose(2, 0, 1)):
        right, below = (channel[:, :-1], channel[:, 1:]), (channel[:-1], channel[1:])
        for (one, other), marked in ((right, edges[:, :-1]), (below, edges[:-1])):
            marked |= np.maximum(one, other) - np.minimum(one, other) > _FLAT
    return edges


def _widened(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Each pixel of a mask ``[H, W]`` or of the :data:`_REACH` above or below it."""
    wide = mask.copy()
    for step in range(1, _REACH + 1):
        wide[step:] |= mask[:-step]
        wide[:-step] |= mask[step:]
    return wide


def _components(mask: NDArray[np.bool_], fewest: int, diagonal: bool) -> NDArray[np.float32]:
    """Boxes ``[N, 4]`` of the connected components of a mask ``[H, W]`` that have so many pixels at least.

    A component is made of runs of pixels side by side, which touch runs of the row above.
    """
    height, width = mask.shape
    padded = np.zeros((height, width + 2), bool)
    padded[:, 1:-1] = mask
    ends = np.flatnonzero(padded.ravel()[1:] != padded.ravel()[:-1]).reshape(-1, 2)  # [R, 2] of runs
    rows, (first, last) = ends[:, 0] // (width + 2), (ends % (width + 2)).T
    # The runs of the row above that end after a run begins, up to those that begin before it ends.
    above = ends - (width + 2)
    start = np.searchsorted(ends[:, 1], above[:, 0], "left" if diagonal else "right")
    stop = np.searchsorted(ends[:, 0], above[:, 1], "right" if diagonal else "left")
    touching = np.maximum(stop - start, 0)
    run = np.repeat(np.arange(len(ends)), touching)
    pairs = np.stack((run, start[run] + np.arange(len(run)) - np.repeat(touching.cumsum() - touching, touching)), 1)
    _, component = np.unique(roots_of(len(ends), pairs), return_inverse=True)
    large = np.flatnonzero(np.bincount(component, last - first) >= fewest)
    boxes = np.empty((component.max(initial=-1) + 1, 4), np.float32)
    boxes[:, :2], boxes[:, 2:] = np.inf, 0
    for side, (edge, extreme) in enumerate(
        ((rows, np.minimum), (first, np.minimum), (rows + 1, np.maximum), (last, np.maximum))
    ):
        extreme.at(boxes[:, side], component, edge.astype(np.float32))
    return boxes[large]


def _beside(boxes: NDArray[np.float32], text: NDArray[np.float32], area: int) -> NDArray[np.float32]:
    """Those that are neither a part of a line of text nor the ground of the screen."""
    boxes = boxes[_sides(boxes).prod(1) < _MOST_AREA * area]
    grown = text + np.array([-1, -1, 1, 1], np.float32) * _AROUND_TEXT
    parts = np.array_split(boxes, len(boxes) // _TOGETHER + 1)  # a page has tens of thousands
    largest = np.concatenate([shares(some, grown).max(1, initial=0) for some in parts])
    return np.asarray(boxes[largest < _TEXT])


def _distinct(boxes: NDArray[np.float32]) -> NDArray[np.int64]:
    """Numbers of the largest boxes, at most :data:`MOST`; of boxes that are nearly the same, the first."""
    areas = _sides(boxes).prod(1)
    largest = np.sort(np.argsort(-areas, kind="stable")[: 4 * MOST])
    kept = largest[distinct(boxes[largest], _SAME)]
    return np.asarray(np.sort(kept[np.argsort(-areas[kept], kind="stable")[:MOST]]))


def _sides(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Height and width of each, ``[N, 2]``."""
    return np.asarray(boxes[:, 2:] - boxes[:, :2])
