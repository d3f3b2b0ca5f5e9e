"""Pages -> arrays, for the objective that finds lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage

from openpali.data.media.images import Preprocess
from openpali.data.media.native import AnyPreprocess
from openpali.data.pipeline.encode import Arrays, Batch, first_image, stack
from openpali.tasks.base import require
from openpali.tasks.example import Example
from openpali_screen.geometry import Box
from openpali_screen.views import CELL, random_view, recolour

_CORE = 0.22  # half the height of a line's middle, in heights of its box
_LEAST = 2.05  # the same in pixels, so that a cell's centre is always in it
_FEW = 24  # cells: a line of fewer weighs as much as one of them
_SHORT = 4  # characters of lines that aimed views show


@dataclass(frozen=True)
class FindingEncoder:
    """A random part of a page at a random scale, and which of its cells hold text.

    Batches have ``images [B, H, W, 3]`` uint8, ``text [B, h, w]`` int8, and ``up``, ``down`` and ``weight [B, h,
    w]`` float32, as :class:`~openpali_screen.find.network.Truth` says.

    Attributes:
        scales: least and most enlargement of a page.
        recoloured: share of samples in other colours.
        aimed: share of samples around a short line, such as a count at an icon, where the page has one.
    """

    scales: tuple[float, float] = (0.75, 1.6)
    recoloured: float = 0.3
    aimed: float = 0.4

    def encode(self, example: Example, task: None, preprocess: AnyPreprocess, rng: np.random.Generator) -> Arrays:
        lines = require(example.lines, example, "lines")
        image = PilImage.fromarray(first_image(example))
        assert isinstance(preprocess, Preprocess)
        height, width = preprocess.height, preprocess.width
        short = [line.box for line in lines if len(line.text) <= _SHORT]
        aim = short[int(rng.integers(len(short)))] if short and rng.random() < self.aimed else None
        view = random_view(image, height, width, self.scales, rng, aim)
        text, up, down, weight = mark_cells(
            [view.box(line.box) for line in lines], [view.box(box) for box in example.ignored], height, width
        )
        pixels = view.of(image, height, width)
        if rng.random() < self.recoloured:
            pixels = recolour(pixels, rng)
        return {"images": pixels, "text": text, "up": up, "down": down, "weight": weight}

    def collate(self, samples: Sequence[Arrays]) -> Batch:
        return stack(samples)


def mark_cells(
    lines: Sequence[Box], ignored: Sequence[Box], height: int, width: int
) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Cells of an image of ``height`` x ``width`` pixels: text or not, pixels to the top and bottom of the line,
    and their weight in a loss.

    The middle of a line's height is text, so that lines that touch stay apart. The cells of a short line weigh
    more: they would be lost among thousands.
    """
    rows, columns = (np.arange(side // CELL) * CELL + CELL / 2 for side in (height, width))  # centres of cells
    text = np.zeros((len(rows), len(columns)), np.int8)
    (up, down), weight = np.zeros((2, *text.shape), np.float32), np.ones(text.shape, np.float32)
    for box in ignored:
        ends = [
            max(0, int(box.ymin // CELL)),
            int(-(-box.ymax // CELL)),
            max(0, int(box.xmin // CELL)),
            int(-(-box.xmax // CELL)),
        ]
        text[ends[0] : max(0, ends[1]), ends[2] : max(0, ends[3])] = -1
    for box in lines:
        half = max(_CORE * box.height, _LEAST)
        inside = np.ix_(
            np.flatnonzero(np.abs(rows - (box.ymin + box.ymax) / 2) <= half),
            np.flatnonzero((columns >= box.xmin) & (columns <= box.xmax)),
        )
        text[inside] = 1
        up[inside] = (rows[inside[0]] - box.ymin).astype(np.float32)
        down[inside] = (box.ymax - rows[inside[0]]).astype(np.float32)
        cells = 2 * half / CELL * box.width / CELL  # of all of it: the view may show its end alone
        weight[inside] = max(1.0, _FEW / max(1.0, cells))
    return text, up, down, weight
