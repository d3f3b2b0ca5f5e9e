"""The order in which the lines of a page are read: an X-Y cut (Nagy and Seth 1984) that keeps tables whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from openpali_screen.geometry import Box

_ALLEY = 1.0  # least width between columns, in median heights of a line
_GAP = 0.25  # least height between bands, the same
_BREAK = 0.5  # a gap between blocks exceeds the median gap between rows by this, the same
_CELL = 12.0  # widest cell of a table, in heights; columns of prose are wider
_ALIKE = 1.4  # most ratio of the heights of lines in a column of a table
_ALIGNED = 0.7  # least share of the cells of a column of a table that stand beside another

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


def reading_order(boxes: Sequence[Box]) -> list[list[list[int]]]:
    """Indices of the boxes of lines in reading order: blocks, their rows, and the lines side by side in each.

    A region is cut at its widest gap, into columns or into what is above and below, and each part again. Lines that
    are not cut are read row by row.
    """
    if not boxes:
        return []
    edges = np.array(boxes, np.float64)  # [N, 4]
    height = float(np.median(edges[:, 2] - edges[:, 0]))
    blocks = _blocks(edges, np.lexsort(edges.T[::-1]), height)
    return [[row.tolist() for row in rows] for rows in blocks]


def _blocks(edges: Floats, some: Indices, height: float) -> list[list[Indices]]:
    def alike(above: Indices, below: Indices) -> bool:
        """Whether two bands have the same columns."""
        both = np.concatenate([above, below])
        return len({len(_split(edges, part, 1, _ALLEY * height)) for part in (above, below, both)}) == 1

    blocks: list[list[Indices]] = []
    regions: list[tuple[Indices, list[Indices], Floats]] = [(some, [], np.zeros(0))]  # with known bands and gaps
    while regions:  # no recursion: a long page may be cut a thousand times
        some, bands, gaps = regions.pop()
        middles, ends = _reach(edges, some)
        if middles.max() > ends[middles.argmin()]:  # several rows
            columns = _join(_split(edges, some, 1, _ALLEY * height), lambda *pair: _is_table(edges, *pair))
            alleys = _gaps(edges, columns, 1)
            if not bands:
                bands = _join(_split(edges, some, 0, _GAP * height), alike)
                gaps = _gaps(edges, bands, 0)
            if len(alleys) and alleys.max() >= gaps.max(initial=0.0):
                at = 1 + int(alleys.argmax())
                regions += [(np.concatenate(part), [], np.zeros(0)) for part in (columns[at:], columns[:at])]
                continue
            if len(gaps):
                at = 1 + int(gaps.argmax())
                below, above = (bands[at:], gaps[at:]), (bands[:at], gaps[: at - 1])
                regions += [(np.concatenate(part), part, between) for part, between in (below, above)]
                continue
        rows = _rows(edges, some)
        gaps = _gaps(edges, rows, 0)
        usual = np.median(gaps) if len(gaps) else 0.0
        breaks = [0, *(1 + np.flatnonzero(gaps > usual + _BREAK * height)), len(rows)]
        blocks += [rows[a:b] for a, b in pairwise(breaks)]
    return blocks


def _split(edges: Floats, some: Indices, axis: int, least: float) -> list[Indices]:
    """Parts with nothing between them for ``least`` pixels: bands (``axis`` 0) or columns (1)."""
    order = some[np.argsort(edges[some, axis], kind="stable")]
    ends = np.maximum.accumulate(edges[order, axis + 2])
    return np.split(order, 1 + np.flatnonzero(edges[order[1:], axis] - ends[:-1] >= least))


def _join(parts: list[Indices], alike: Callable[[Indices, Indices], bool]) -> list[Indices]:
    """Parts, those that are ``alike`` the one before joined with it."""
    joined = parts[:1]
    for part in parts[1:]:
        if alike(joined[-1], part):
            joined[-1] = np.concatenate([joined[-1], part])
        else:
            joined.append(part)
    return joined


def _gaps(edges: Floats, parts: list[Indices], axis: int) -> Floats:
    """The widths of the gaps between parts, ``[P - 1]``."""
    return np.array([edges[b, axis].min() - edges[a, axis + 2].max() for a, b in pairwise(parts)])


def _is_table(edges: Floats, left: Indices, right: Indices) -> bool:
    """Whether two columns are of one table: lines beside each other, in one of them short and of one height."""
    few, many = sorted((left, right), key=len)
    middles, others = (edges[part, 0] + edges[part, 2] for part in (few, many))
    tall, wide = ([edges[part, 2 + axis] - edges[part, axis] for part in (few, many)] for axis in (0, 1))
    beside = np.abs(middles[:, None] - others).min(1) < tall[0] / 2
    alike = any(one.max() <= _ALIKE * one.min() for one in tall)
    short = any(np.median(one / tall[i]) <= _CELL for i, one in enumerate(wide))
    return bool(alike and short and beside.mean() >= _ALIGNED)


def _reach(edges: Floats, some: Indices) -> tuple[Floats, Floats]:
    """The middles of lines, and down to where the middles of others in their row are."""
    middles = (edges[some, 0] + edges[some, 2]) / 2
    return middles, middles + 0.4 * (edges[some, 2] - edges[some, 0])


def _rows(edges: Floats, some: Indices) -> list[Indices]:
    """Rows, each from left to right; in a row are lines whose middles are in the height of the first, nearly."""
    middles, ends = _reach(edges, some)
    rows: list[list[int]] = []
    end = -np.inf
    for i in np.argsort(middles, kind="stable"):
        if middles[i] > end:
            rows.append([])
            end = ends[i]
        rows[-1].append(some[i])
    return [np.array(sorted(row, key=lambda line: edges[line, 1])) for row in rows]
