"""Where lines of text are on an image of any size: the finder sees tiles that overlap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openpali.data.groups import connected
from openpali.model.layers import device_of
from openpali.tasks.example import Box, Image, Size
from openpali.weights.ood import RunningFeatures
from openpali_screen.find.network import Finder
from openpali_screen.find.tiles import cells_of
from openpali_screen.upright import skew_of
from openpali_screen.vit import CELL

_GAP = 0.6  # widest gap within a line, in heights of its box: training's columns are wider apart
_SAME = 0.5  # least IoU of the heights of two runs of cells that are one line
_LEAST = 4.0  # pixels; no line is lower
_REACH = 0.2  # heights by which text reaches beyond its outermost cells: the ends of slender letters
_TEXT = 0.5  # least probability of a cell with text
_ENDS = 0.3  # the same of a cell at either end of a line, where text begins or ends
_SUREST = 0.7  # least probability of the most probable cell of a line


class FoundLine(NamedTuple):
    """A line that was found, and the mean probability of its cells."""

    box: Box
    confidence: float


class FoundText(NamedTuple):
    """What the finder sees on a page: lines, its features for an OOD detector, float ``[2 D]``, and its skew, as
    of :func:`~openpali_screen.upright.skew_of`."""

    lines: list[FoundLine]
    features: Tensor
    skew: float = 0.0


def find_lines(finder: Finder, image: Image) -> list[FoundLine]:
    """Where the lines of an image ``[H, W, 3]`` uint8 are."""
    return find_text(finder, image).lines


@torch.inference_mode()
def find_text(finder: Finder, image: Image) -> FoundText:
    """The lines of an image ``[H, W, 3]`` uint8, and its features."""
    tokens = RunningFeatures()

    def say(tiles: Tensor, counts: Sequence[int]) -> Tensor:
        own, cells = finder.vit(tiles)
        tokens.add(own.cpu().flatten(1, 2), torch.tensor(counts))
        return torch.stack(list(finder.judge(own, cells)), 1)

    logits, up, down = cells_of(say, image, Size(*finder.vit.config.image_size), device_of(finder))
    text = logits.sigmoid().numpy()
    return FoundText(_lines(text, up.numpy(), down.numpy()), tokens.features, skew_of(text > _TEXT))


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
    sure = np.concatenate([probability[run.row, run.first : run.last] for run in runs])
    if bottom - top >= _LEAST and sure.max() >= _SUREST:
        return FoundLine(Box(top, xmin, bottom, xmax), float(sure.mean()))
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
