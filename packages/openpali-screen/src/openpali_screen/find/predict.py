"""Where lines of text are on an image of any size: the finder sees tiles that overlap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openpali.data.groups import connected
from openpali.infer.batches import chunked
from openpali.model.layers import device_of
from openpali.tasks.example import Box, Image, Object, Size
from openpali.weights.ood import RunningFeatures
from openpali_screen.find.network import Finder
from openpali_screen.views import skew_of
from openpali_screen.vit import CELL

TILES = 4  # of a batch: what is known of more leaves the cache of a core
_GAP = 0.6  # widest gap within a line, in heights of its box: training's columns are wider apart
_SAME = 0.5  # least IoU of the heights of two runs of cells that are one line
_LEAST = 4.0  # pixels; no line is lower
_REACH = 0.2  # heights by which text reaches beyond its outermost cells: the ends of slender letters
_TEXT = 0.5  # least probability of a cell with text
_ENDS = 0.3  # the same of a cell at either end of a line, where text begins or ends
_SUREST = 0.7  # least probability of the most probable cell of a line


def find_lines(finder: Finder, image: Image) -> list[Object]:
    """Where the lines of an image ``[H, W, 3]`` uint8 are."""
    return find_text(finder, image)[0]


@torch.inference_mode()
def find_text(finder: Finder, image: Image) -> tuple[list[Object], Tensor, float]:
    """The lines of an image ``[H, W, 3]`` uint8, its features for an OOD detector, float ``[2 D]``, and its
    skew."""
    tokens = RunningFeatures()

    def run(tiles: Tensor, counts: Sequence[int]) -> Tensor:
        own, cells = finder.vit(tiles)
        tokens.add(own.cpu().flatten(1, 2), torch.tensor(counts))
        return torch.stack(list(finder.run_head(own, cells)), 1)

    logits, up, down = cells_of(run, image, Size(*finder.vit.config.image_size), device_of(finder))
    text = logits.sigmoid().numpy()
    return _lines(text, up.numpy(), down.numpy()), tokens.features, skew_of(text > _TEXT)


class _Run(NamedTuple):
    """Neighbouring cells of a row with text: columns ``first`` up to ``last``, and top and bottom of their line."""

    row: int
    first: int
    last: int
    top: float
    bottom: float


def _lines(probability: NDArray[np.float32], up: NDArray[np.float32], down: NDArray[np.float32]) -> list[Object]:
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


def _line(runs: Sequence[_Run], probability: NDArray[np.float32]) -> Object | None:
    """The line that runs make, if it is high enough and one of its cells is probable."""
    cells = [run.last - run.first for run in runs]
    top = float(np.average([run.top for run in runs], weights=cells))
    bottom = float(np.average([run.bottom for run in runs], weights=cells))
    reach = _REACH * (bottom - top)
    xmin = max(0.0, min(run.first for run in runs) * CELL - reach)
    xmax = min(float(probability.shape[1] * CELL), max(run.last for run in runs) * CELL + reach)
    inside = np.concatenate([probability[run.row, run.first : run.last] for run in runs])
    if bottom - top >= _LEAST and inside.max() >= _SUREST:
        return Object("line", Box(top, xmin, bottom, xmax), confidence=float(inside.mean()))
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
    run: Callable[[Tensor, Sequence[int]], Tensor], image: Image, tile: Size, device: torch.device
) -> Tensor:
    """Run a network on overlapping tiles, and stitch its outputs: float ``[C, H / 4, W / 4]``, rounded up.

    It is asked once about all tiles of one colour, such as the margins of a page.

    Args:
        run: tiles ``[B, H, W, 3]`` uint8, and how many of the image are like each -> ``[B, C, h, w]``.
        image: ``[H, W, 3]`` uint8.
        device: where ``run`` takes tiles; what is returned is on the CPU.
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
    outputs: dict[int, Tensor] = {}
    for some in chunked(asked, TILES):
        batch = torch.from_numpy(np.stack([_whole(tiles[number], tile) for number in some])).to(device)
        stacked = run(batch, [counts[number] for number in some]).float().cpu()
        outputs.update(zip(some, stacked, strict=True))
    found = torch.zeros(outputs[0].shape[0], -(-height // CELL), -(-width // CELL))
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
