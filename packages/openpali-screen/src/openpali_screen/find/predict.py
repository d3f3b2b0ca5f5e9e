"""Where lines of text are on an image of any size: the finder sees tiles that overlap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from openpali_screen.geometry import Box, Image, Size, chunked, connected
from openpali_screen.networks import FinderNetwork
from openpali_screen.views import CELL, skew_of

TILES = 4  # of a batch: what is known of more leaves the cache of a core
_GAP = 0.6  # widest gap within a line, in heights of its box: training's columns are wider apart
_SAME = 0.5  # least IoU of the heights of two runs of cells that are one line
_LEAST = 4.0  # pixels; no line is lower
_REACH = 0.2  # heights by which text reaches beyond its outermost cells: the ends of slender letters
_TEXT = 0.5  # least probability of a cell with text
_ENDS = 0.3  # the same of a cell at either end of a line, where text begins or ends
_SUREST = 0.7  # least probability of the most probable cell of a line


class FoundLine(NamedTuple):
    """Where a line is, and the mean probability of its cells."""

    box: Box
    confidence: float


class FoundText(NamedTuple):
    """Where text is on a page.

    Attributes:
        lines: in no order.
        features: of the page, for a detector of what is none: mean of its tokens and logarithm of their standard
            deviation, float32 ``[2 D]``.
        skew: of the lines, counter-clockwise degrees.
    """

    lines: list[FoundLine]
    features: NDArray[np.float32]
    skew: float


def find_text(finder: FinderNetwork, image: Image) -> FoundText:
    """The lines of an image ``[H, W, 3]`` uint8."""
    count, moments = 0, np.zeros((2, 1))  # of tokens, which are not kept; squares cancel in float32

    def run(tiles: Image, counts: Sequence[int]) -> NDArray[np.float32]:
        nonlocal count, moments
        cells, tokens = finder.run(tiles)
        count += sum(counts) * tokens.shape[1]
        x = tokens.astype(np.float64)
        moments = moments + np.stack([np.array(counts) @ each.sum(1) for each in (x, np.square(x))])
        return cells

    text, up, down = cells_of(run, image, finder.tile)
    mean, square = moments / count
    deviation = np.sqrt((square - mean**2).clip(0))
    features = np.concatenate([mean, np.log(deviation + 1e-6)]).astype(np.float32)
    return FoundText(_lines(text, up, down), features, skew_of(text > _TEXT))


class _Run(NamedTuple):
    """Neighbouring cells of a row with text: columns ``first`` up to ``last``, and top and bottom of their line."""

    row: int
    first: int
    last: int
    top: float
    bottom: float


def _lines(probability: NDArray[np.float32], up: NDArray[np.float32], down: NDArray[np.float32]) -> list[FoundLine]:
    """Cells ``[h, w]`` to lines: runs that touch, or nearly so, and agree on the height of their line."""
    runs = [run for row in range(len(probability)) for run in _runs(row, probability[row], up[row], down[row])]
    groups = connected(len(runs), [*_joined(runs)])
    return [line for members in groups if (line := _line([runs[i] for i in members], probability))]


def _joined(runs: Sequence[_Run]) -> Iterator[tuple[int, int]]:
    """Pairs of runs of one line, by index: side by side with a narrow gap, or in touch with the row above."""
    rows: dict[int, list[int]] = {}
    for number, run in enumerate(runs):
        rows.setdefault(run.row, []).append(number)
    for row, now in rows.items():
        for left, right in pairwise(now):
            gap = (runs[right].first - runs[left].last) * CELL
            if gap <= _GAP * (runs[left].bottom - runs[left].top) and _agree(runs[left], runs[right]):
                yield left, right
        for above, below in product(rows.get(row - 1, ()), now):
            touch = runs[above].first < runs[below].last and runs[below].first < runs[above].last
            if touch and _agree(runs[above], runs[below]):
                yield above, below


def _line(runs: Sequence[_Run], probability: NDArray[np.float32]) -> FoundLine | None:
    """The line that runs make, if it is high enough and one of its cells is probable."""
    cells = [run.last - run.first for run in runs]
    top = float(np.average([run.top for run in runs], weights=cells))
    bottom = float(np.average([run.bottom for run in runs], weights=cells))
    reach = _REACH * (bottom - top)
    xmin = max(0.0, min(run.first for run in runs) * CELL - reach)
    xmax = min(float(probability.shape[1] * CELL), max(run.last for run in runs) * CELL + reach)
    inside = np.concatenate([probability[run.row, run.first : run.last] for run in runs])
    if bottom - top >= _LEAST and inside.max() >= _SUREST:
        return FoundLine(Box(top, xmin, bottom, xmax), float(inside.mean()))
    return None


def _runs(
    row: int, probability: NDArray[np.float32], up: NDArray[np.float32], down: NDArray[np.float32]
) -> Iterator[_Run]:
    """The runs of a row; each begins and ends with cells that are less probable (two thresholds, as Canny's)."""
    text = probability > _TEXT
    ends = (probability > _ENDS) & ~text
    edges = np.flatnonzero(np.diff(text.astype(np.int8), prepend=0, append=0))
    centre = row * CELL + CELL / 2
    for first, last in edges.reshape(-1, 2).tolist():
        top, bottom = centre - np.median(up[first:last]), centre + np.median(down[first:last])
        while first > 0 and ends[first - 1]:
            first -= 1
        while last < len(ends) and ends[last]:
            last += 1
        yield _Run(row, first, last, float(top), float(bottom))


def _agree(one: _Run, other: _Run) -> bool:
    both = min(one.bottom, other.bottom) - max(one.top, other.top)
    return both >= _SAME * (max(one.bottom, other.bottom) - min(one.top, other.top))


def cells_of(
    run: Callable[[Image, Sequence[int]], NDArray[np.float32]], image: Image, tile: Size
) -> NDArray[np.float32]:
    """Run a network on overlapping tiles, and stitch its outputs: float ``[C, H / 4, W / 4]``, rounded up.

    It is asked once about all tiles of one colour, such as the margins of a page.

    Args:
        run: tiles ``[B, H, W, 3]`` uint8, and how many of the image are like each -> ``[B, C, h, w]``.
        image: ``[H, W, 3]`` uint8.
    """
    height, width = image.shape[:2]
    tops, lefts = (_starts(side, own) for side, own in ((height, tile.height), (width, tile.width)))
    places = [(top, left) for top in tops for left in lefts]
    tiles = [image[top : top + tile.height, left : left + tile.width] for top, left in places]
    plain: dict[bytes, int] = {}  # colour -> the first tile of it
    like = [
        plain.setdefault(each[0, 0].tobytes(), number) if _is_plain(each) else number
        for number, each in enumerate(tiles)
    ]
    counts = Counter(like)
    asked = list(counts)
    outputs: dict[int, NDArray[np.float32]] = {}
    for some in chunked(asked, TILES):
        batch = np.stack([_whole(tiles[number], tile) for number in some])
        outputs.update(zip(some, run(batch, [counts[number] for number in some]), strict=True))
    found = np.zeros((outputs[0].shape[0], -(-height // CELL), -(-width // CELL)), np.float32)
    for (top, left), number in zip(places, like, strict=True):
        skip = [
            _shared(side) // 2 // CELL if start else 0 for start, side in ((top, tile.height), (left, tile.width))
        ]
        row, column = top // CELL + skip[0], left // CELL + skip[1]
        target = found[:, row:, column:]
        part = outputs[number][:, skip[0] :, skip[1] :][:, : target.shape[1], : target.shape[2]]
        target[:, : part.shape[1], : part.shape[2]] = part
    return found


def _whole(part: Image, tile: Size) -> Image:
    """A tile that reaches beyond the image, filled up with the pixels of its edge."""
    missing = tile.height - part.shape[0], tile.width - part.shape[1]
    return np.pad(part, (*((0, pixels) for pixels in missing), (0, 0)), mode="edge")


def _is_plain(tile: Image) -> bool:
    """Whether a tile has one colour; most differ in a few of their pixels already."""
    return bool((tile[::16, ::16] == tile[0, 0]).all() and (tile == tile[0, 0]).all())


def _starts(side: int, tile: int) -> list[int]:
    """Where tiles start that cover ``side`` pixels."""
    return list(range(0, max(1, side - _shared(tile)), tile - _shared(tile)))


def _shared(tile: int) -> int:
    """Pixels that neighbouring tiles share, a quarter of each: near its edges a tile sees half of things."""
    return tile // (8 * CELL) * 2 * CELL
