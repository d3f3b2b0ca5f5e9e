"""Pages -> arrays, for the objectives that find and read lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PilImage

from openpali.data.media.images import Preprocess
from openpali.data.pipeline.encode import Arrays, Batch, first_image
from openpali.model.pages import CELL, PATCH
from openpali.tasks.base import Task, require
from openpali.tasks.example import Box, Example, Image, Line, Size, around
from openpali.text.characters import numbers_of

_CORE = 0.22  # half the height of a line's middle, in heights of its box
_LEAST = 2.05  # the same in pixels, so that a cell's centre is always in it
MARGIN = 0.125  # around a line, in heights of its box
WIDTHS = 64  # pixels; lines of a batch are padded to a multiple of it: libraries keep a compiled matmul per shape


class View(NamedTuple):
    """A part of an image, enlarged: pixel (y, x) of the view is (top + y / down, left + x / right) of the image."""

    top: float
    left: float
    down: float
    right: float

    def box(self, box: Box) -> Box:
        """A box of the image in pixels of the view."""
        tops = ((edge - self.top) * self.down for edge in (box.ymin, box.ymax))
        lefts = ((edge - self.left) * self.right for edge in (box.xmin, box.xmax))
        (ymin, ymax), (xmin, xmax) = tops, lefts
        return Box(ymin, xmin, ymax, xmax)

    def of(self, image: PilImage.Image, height: int, width: int) -> Image:
        """The view, uint8 ``[height, width, 3]``, in one colour of the image where it reaches beyond that."""
        corner = (
            min(max(0, round(self.left)), image.width - 1),
            min(max(0, round(self.top)), image.height - 1),
        )
        filter = PilImage.Resampling.BILINEAR if self.down > 1 else PilImage.Resampling.BICUBIC
        numbers = (1 / self.right, 0, self.left, 0, 1 / self.down, self.top)
        colour = image.getpixel(corner)
        view = image.transform((width, height), PilImage.Transform.AFFINE, numbers, filter, fillcolor=colour)
        return np.array(view)


@dataclass(frozen=True)
class FindingEncoder:
    """A random part of a page at a random scale, and which of its cells hold text.

    Batches have ``images [B, H, W, 3]`` uint8, ``text [B, h, w]`` int8, and ``up`` and ``down [B, h, w]``
    float32, as :class:`~openpali.model.pages.Truth` says.

    Attributes:
        scales: least and most enlargement of a page.
        recoloured: share of samples in other colours.
    """

    scales: tuple[float, float] = (0.75, 1.6)
    recoloured: float = 0.3

    def encode(self, example: Example, task: Task, preprocess: Preprocess, rng: np.random.Generator) -> Arrays:
        lines = require(example.lines, example, "lines")
        image = PilImage.fromarray(first_image(example))
        scale = float(np.exp(rng.uniform(*np.log(self.scales))))
        height, width = preprocess.height, preprocess.width
        free = image.height - height / scale, image.width - width / scale
        top, left = (float(rng.uniform(min(0, room), max(0, room))) for room in free)
        view = View(top, left, scale, scale)
        text, up, down = mark_cells(
            [view.box(line.box) for line in lines], [view.box(box) for box in example.ignored], height, width
        )
        pixels = view.of(image, height, width)
        if rng.random() < self.recoloured:
            pixels = recolour(pixels, rng)
        return {"images": pixels, "text": text, "up": up, "down": down}

    def collate(self, samples: Sequence[Arrays]) -> Batch:
        return {key: torch.from_numpy(np.stack([s[key] for s in samples])) for key in samples[0]}


def recolour(pixels: Image, rng: np.random.Generator) -> Image:
    """The image ``[H, W, 3]`` in two other colours: pages of few colours teach text on any.

    Black becomes one random colour and white another, whose brightness differs by a quarter of the range at least.
    """
    while True:
        black, white = rng.integers(0, 256, (2, 3))
        if abs(int(white.sum()) - int(black.sum())) >= 3 * 64:
            break
    values = np.arange(256)[:, None] / 255
    table = (black + (white - black) * values).astype(np.uint8)  # [256, 3]
    return np.stack([table[pixels[..., channel], channel] for channel in range(3)], -1)


def mark_cells(
    lines: Sequence[Box], ignored: Sequence[Box], height: int, width: int
) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float32]]:
    """Cells of an image of ``height`` x ``width`` pixels: text or not, and pixels to the top and bottom of the
    line.

    The middle of a line's height is text, so that lines that touch stay apart.
    """
    rows, columns = (np.arange(side // CELL) * CELL + CELL / 2 for side in (height, width))  # centres of cells
    text = np.zeros((len(rows), len(columns)), np.int8)
    up, down = np.zeros(text.shape, np.float32), np.zeros(text.shape, np.float32)
    for box in ignored:
        ends = [
            max(0, int(box.ymin // CELL)),
            int(-(-box.ymax // CELL)),
            max(0, int(box.xmin // CELL)),
            int(-(-box.xmax // CELL)),
        ]
        text[ends[0] : max(0, ends[1]), ends[2] : max(0, ends[3])] = -1
    for box in lines:
        half = max(_CORE * (box.ymax - box.ymin), _LEAST)
        inside = np.ix_(
            np.flatnonzero(np.abs(rows - (box.ymin + box.ymax) / 2) <= half),
            np.flatnonzero((columns >= box.xmin) & (columns <= box.xmax)),
        )
        text[inside] = 1
        up[inside] = (rows[inside[0]] - box.ymin).astype(np.float32)
        down[inside] = (box.ymax - rows[inside[0]]).astype(np.float32)
    return text, up, down


@dataclass(frozen=True)
class ReadingEncoder:
    """Pieces of lines at the height of the reader; an example without ``lines`` is one line, its ``text``.

    Batches have ``lines [R, H, W, 3]`` uint8, with padding on the right, ``columns [R]``, patches in a row of each
    line, ``characters [R, L]``, numbers counted from 1 and padded with 0, and ``row [R]``, the example of each
    line.

    Attributes:
        pieces: lines of an example.
        recoloured: share of lines in other colours.
    """

    pieces: int = 8
    recoloured: float = 0.3

    def encode(self, example: Example, task: Task, preprocess: Preprocess, rng: np.random.Generator) -> Arrays:
        image = PilImage.fromarray(first_image(example))
        size = preprocess.height, preprocess.width
        found = [self._piece(example, image, *size, rng) for _ in range(self.pieces if example.lines else 1)]
        pieces = [piece for piece in found if piece is not None]
        if not pieces:
            raise ValueError(f"{example.key} has no line that fits {size[1]} pixels and that the reader can write")
        columns = [pixels.shape[1] // PATCH for pixels, _ in pieces]
        lines = np.zeros((len(pieces), size[0], max(columns) * PATCH, 3), np.uint8)
        characters = np.zeros((len(pieces), max(len(numbers) for _, numbers in pieces)), np.int64)
        for row, (pixels, numbers) in enumerate(pieces):
            lines[row, :, : pixels.shape[1]] = pixels
            characters[row, : len(numbers)] = numbers
        return {"lines": lines, "columns": np.array(columns), "characters": characters}

    def _piece(
        self, example: Example, image: PilImage.Image, height: int, width: int, rng: np.random.Generator
    ) -> tuple[Image, list[int]] | None:
        """A random piece of a random line that the reader can write, as pixels and numbers of characters."""
        if not example.lines:
            text, box = example.text, _without_margin(example.size)
        else:
            line = example.lines[int(rng.integers(len(example.lines)))]
            if not line.readable:
                return None
            text, box = _cut(line, width / height / (1 + 2 * MARGIN) - 0.5, rng)
        numbers = numbers_of(text)
        if not numbers:
            return None
        pixels = cut_line(image, box, height, width, rng)
        needed = len(numbers) + sum(a == b for a, b in pairwise(numbers))
        if needed > pixels.shape[1] // CELL:
            return None
        return (recolour(pixels, rng) if rng.random() < self.recoloured else pixels), numbers

    def collate(self, samples: Sequence[Arrays]) -> Batch:
        rows = [len(s["lines"]) for s in samples]
        widest = -(-max(s["lines"].shape[2] for s in samples) // WIDTHS) * WIDTHS
        longest = max(s["characters"].shape[1] for s in samples)
        lines = np.zeros((sum(rows), samples[0]["lines"].shape[1], widest, 3), np.uint8)
        characters = np.zeros((sum(rows), longest), np.int64)
        start = 0
        for sample, count in zip(samples, rows, strict=True):
            lines[start : start + count, :, : sample["lines"].shape[2]] = sample["lines"]
            characters[start : start + count, : sample["characters"].shape[1]] = sample["characters"]
            start += count
        return {
            "lines": torch.from_numpy(lines),
            "columns": torch.from_numpy(np.concatenate([s["columns"] for s in samples])),
            "characters": torch.from_numpy(characters),
            "row": torch.from_numpy(np.repeat(np.arange(len(samples)), rows)),
        }


def cut_line(
    image: PilImage.Image, box: Box, height: int, width: int, rng: np.random.Generator | None = None
) -> Image:
    """A line, uint8 ``[height, W, 3]``: the box with :data:`MARGIN` around it, W a multiple of 16 up to
    ``width``.

    ``rng`` moves and stretches it a little, as a finder does that is not exact.
    """

    def move(most: float) -> float:
        return 0.0 if rng is None else float(rng.uniform(-most, most))

    tall = box.ymax - box.ymin
    top, bottom = box.ymin - (MARGIN + move(0.08)) * tall, box.ymax + (MARGIN + move(0.08)) * tall
    left, right = box.xmin - (MARGIN + move(0.12)) * tall, box.xmax + (MARGIN + move(0.12)) * tall
    down = height / (bottom - top)
    across = down * float(np.exp(move(0.12)))
    wide = min(width, max(PATCH, -(-int((right - left) * across) // PATCH) * PATCH))
    across = min(across, wide / (right - left))
    return View(top, left, down, across).of(image, height, wide)


def _cut(line: Line, most: float, rng: np.random.Generator) -> tuple[str, Box]:
    """Some words of a line, from a random one on, at most ``most`` times as wide as high."""
    first = int(rng.integers(len(line.words)))
    last = len(line.words) if rng.random() < 0.85 else first + 1
    chosen = [line.words[first]]
    for word in line.words[first + 1 : last]:
        box = around([*(w.box for w in chosen), word.box])
        if box.xmax - box.xmin > most * (box.ymax - box.ymin):
            break
        chosen.append(word)
    return " ".join(word.text for word in chosen), around(word.box for word in chosen)


def _without_margin(size: Size) -> Box:
    """The box whose margin ends with an image of ``size``: an image of a line has some room around it."""
    room = size.height * MARGIN / (1 + 2 * MARGIN)
    return Box(room, room, size.height - room, size.width - room)
