"""Pages -> arrays, for the objectives that find and read lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PilImage

from openpali.data.media.images import Preprocess
from openpali.data.media.native import AnyPreprocess
from openpali.data.pipeline.encode import Arrays, Batch, first_image, stack
from openpali.metrics.words import holds_centre
from openpali.model.pages import CELL, CELLS, PATCH
from openpali.tasks.base import require
from openpali.tasks.example import Box, Example, Image, Line, Size, Word, around
from openpali.text.characters import numbers_of, plain

_CORE = 0.22  # half the height of a line's middle, in heights of its box
_LEAST = 2.05  # the same in pixels, so that a cell's centre is always in it
_FEW = 24  # cells: a line of fewer weighs as much as one of them
_SHORT = 4  # characters of lines that aimed views show
MARGIN = 0.07  # around a line, in heights of its box
_ICONS = 0.06  # share of pieces that are an icon, which says nothing
_BESIDE = 0.4  # share of lines beside an icon that are seen with it, as a finder may take both for one
_NEAR = 0.7  # heights of a line within which an icon is beside it
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

    Batches have ``images [B, H, W, 3]`` uint8, ``text [B, h, w]`` int8, and ``up``, ``down`` and ``weight [B, h,
    w]`` float32, as :class:`~openpali.model.pages.Truth` says.

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


def random_view(
    image: PilImage.Image,
    height: int,
    width: int,
    scales: tuple[float, float],
    rng: np.random.Generator,
    aim: Box | None = None,
) -> View:
    """A part of an image that fills ``height`` x ``width`` pixels, at a scale between two.

    With ``aim``, the centre of that box is anywhere in the view. The view stays inside an image that is larger.
    """
    scale = float(np.exp(rng.uniform(*np.log(scales))))
    corner = []
    for axis, (side, own) in enumerate(zip((height, width), (image.height, image.width), strict=True)):
        seen = side / scale
        ends = min(0, own - seen), max(0, own - seen)
        start = float(rng.uniform(*ends) if aim is None else aim.centre[axis] - rng.uniform(0, seen))
        corner.append(min(max(start, ends[0]), ends[1]))
    return View(corner[0], corner[1], scale, scale)


def recolour(pixels: Image, rng: np.random.Generator, bend: float = 1.0) -> Image:
    """The image ``[..., 3]`` in two other colours: pages of few colours teach text on any.

    Black becomes one random colour and white another, whose brightness differs by a quarter of the range at least.
    The tones between them follow a power of up to ``bend`` or down to its inverse: dark or light ones become alike.
    """
    while True:
        black, white = rng.integers(0, 256, (2, 3))
        if abs(int(white.sum()) - int(black.sum())) >= 3 * 64:
            break
    values = np.arange(256)[:, None] / 255
    if bend > 1:
        values **= bend ** rng.uniform(-1, 1)
    table = (black + (white - black) * values).astype(np.uint8)  # [256, 3]
    return np.stack([table[pixels[..., channel], channel] for channel in range(3)], -1)


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


@dataclass(frozen=True)
class ReadingEncoder:
    """Pieces of lines at the height of the reader, and some icons, which say nothing; an example without ``lines``
    is one line, its ``text``.

    Batches have ``lines [R, H, W, 3]`` uint8, with padding on the right, ``columns [R]``, patches in a row of each
    line, ``characters [R, L]``, numbers counted from 1 and padded with 0, ``places [R, L]``, the step of the reader
    in which a character's middle is, or -1 where nobody knows, and ``row [R]``, the example of each line.

    Attributes:
        pieces: lines of an example.
        steps: of the reader, in a patch.
        recoloured: share of lines in other colours.
    """

    pieces: int = 8
    steps: int = CELLS
    recoloured: float = 0.3

    def encode(self, example: Example, task: None, preprocess: AnyPreprocess, rng: np.random.Generator) -> Arrays:
        require(example.lines or example.text.strip(), example, "lines or text")
        image = PilImage.fromarray(first_image(example))
        assert isinstance(preprocess, Preprocess)
        size = preprocess.height, preprocess.width
        found = [self._piece(example, image, *size, rng) for _ in range(self.pieces if example.lines else 1)]
        pieces = [piece for piece in found if piece is not None]
        if not pieces:
            raise ValueError(f"{example.key} has no line that fits {size[1]} pixels and that the reader can write")
        columns = [piece.pixels.shape[1] // PATCH for piece in pieces]
        lines = np.zeros((len(pieces), size[0], max(columns) * PATCH, 3), np.uint8)
        characters = np.zeros((len(pieces), max(1, *(len(piece.numbers) for piece in pieces))), np.int64)
        places = np.full_like(characters, -1)
        for row, (pixels, numbers, middles) in enumerate(pieces):
            lines[row, :, : pixels.shape[1]] = pixels
            characters[row, : len(numbers)] = numbers
            places[row, : len(middles)] = middles
        return {"lines": lines, "columns": np.array(columns), "characters": characters, "places": places}

    def _piece(
        self, example: Example, image: PilImage.Image, height: int, width: int, rng: np.random.Generator
    ) -> _Piece | None:
        """A random piece of a random line that the reader can write, or an icon."""
        words: Sequence[Word] = ()
        following: Sequence[Word] = ()
        text, box = example.text, without_margin(example.size)
        icons = [thing.box for thing in example.objects if thing.is_icon]
        if icons and rng.random() < _ICONS:
            text, box = "", icons[int(rng.integers(len(icons)))]
            if any(holds_centre(box, word.box) for line in example.lines for word in line.words):
                return None
        elif example.lines:
            line = example.lines[int(rng.integers(len(example.lines)))]
            if not line.readable:
                return None
            words, following = _cut(line, width / height / (1 + 2 * MARGIN) - 0.5, rng)
            text, box = " ".join(word.text for word in words), around(word.box for word in words)
            if rng.random() < _BESIDE:
                box = _with_icons(box, icons, ends=not following)
        numbers = numbers_of(text)
        if numbers is None or (text and not numbers):
            return None
        view, width = view_of_line(box, height, width, rng)
        step = PATCH // self.steps  # pixels
        columns = width // step
        if len(numbers) + sum(a == b for a, b in pairwise(numbers)) > columns:
            return None
        pixels = view.of(image, height, width)
        for word in following[:1]:
            pixels = end_at(pixels, int((word.box.xmin - view.left) * view.right))
        if rng.random() < self.recoloured:
            pixels = recolour(pixels, rng)
        middles = [min(max(0, int((x - view.left) * view.right / step)), columns - 1) for x in _middles(words)]
        return _Piece(pixels, numbers, middles)

    def collate(self, samples: Sequence[Arrays]) -> Batch:
        rows = [len(s["lines"]) for s in samples]
        widest = -(-max(s["lines"].shape[2] for s in samples) // WIDTHS) * WIDTHS
        longest = max(s["characters"].shape[1] for s in samples)
        lines = np.zeros((sum(rows), samples[0]["lines"].shape[1], widest, 3), np.uint8)
        characters = np.zeros((sum(rows), longest), np.int64)
        places = np.full_like(characters, -1)
        start = 0
        for sample, count in zip(samples, rows, strict=True):
            some, length = slice(start, start + count), sample["characters"].shape[1]
            lines[some, :, : sample["lines"].shape[2]] = sample["lines"]
            characters[some, :length] = sample["characters"]
            places[some, :length] = sample["places"]
            start += count
        return {
            "lines": torch.from_numpy(lines),
            "columns": torch.from_numpy(np.concatenate([s["columns"] for s in samples])),
            "characters": torch.from_numpy(characters),
            "places": torch.from_numpy(places),
            "row": torch.from_numpy(np.repeat(np.arange(len(samples)), rows)),
        }


class _Piece(NamedTuple):
    """A piece of a line, uint8 ``[H, W, 3]``, its characters as numbers, and the columns of their middles."""

    pixels: Image
    numbers: Sequence[int]
    middles: Sequence[int]


def view_of_line(box: Box, height: int, width: int, rng: np.random.Generator | None = None) -> tuple[View, int]:
    """How the reader sees a line ``height`` pixels high: the box with :data:`MARGIN` around it; and its width in
    pixels, a multiple of 16 up to ``width``.

    In training ``rng`` moves and stretches it a little, as a finder does that is not exact.
    """

    def move(most: float) -> float:
        return 0.0 if rng is None else float(rng.uniform(-most, most))

    tall = box.height
    top, bottom = box.ymin - (MARGIN + move(0.08)) * tall, box.ymax + (MARGIN + move(0.08)) * tall
    left, right = box.xmin - (MARGIN + move(0.12)) * tall, box.xmax + (MARGIN + move(0.12)) * tall
    down = height / (bottom - top)
    across = down * float(np.exp(move(0.12)))
    wide = min(width, max(PATCH, -(-int((right - left) * across) // PATCH) * PATCH))
    return View(top, left, down, min(across, wide / (right - left))), wide


def end_at(pixels: Image, column: int) -> Image:
    """Overwrite a view ``[H, W, 3]`` from a column on, in place: words there are not in the target."""
    column = max(1, column)
    pixels[:, column:] = pixels[:, column - 1 : column]
    return pixels


def _cut(line: Line, most: float, rng: np.random.Generator) -> tuple[list[Word], Sequence[Word]]:
    """Some words of a line, from a random one on, at most ``most`` times as wide as high; and those after them."""
    first = int(rng.integers(len(line.words)))
    last = len(line.words) if rng.random() < 0.85 else first + 1
    chosen = [line.words[first]]
    for word in line.words[first + 1 : last]:
        box = around([*(w.box for w in chosen), word.box])
        if box.width > most * box.height:
            break
        chosen.append(word)
    return chosen, line.words[first + len(chosen) :]


def _with_icons(line: Box, icons: Sequence[Box], *, ends: bool) -> Box:
    """The box of a line with an icon on its left, and one on its right if the line ends there."""
    reach, (ymin, xmin, ymax, xmax) = _NEAR * line.height, line
    for icon in icons:
        if ymin < (icon.ymin + icon.ymax) / 2 < ymax:
            if 0 <= line.xmin - icon.xmax <= reach:
                xmin = icon.xmin
            elif ends and 0 <= icon.xmin - line.xmax <= reach:
                xmax = icon.xmax
    return line._replace(xmin=xmin, xmax=xmax)


def _middles(words: Sequence[Word]) -> Iterator[float]:
    """Where about the middle of each character is, in pixels of the image, and of the space between two words."""
    before: Word | None = None
    for word in words:
        if before:
            yield (before.box.xmax + word.box.xmin) / 2
        ends = np.cumsum([_width(character) for character in plain(word.text)])
        starts = np.concatenate([[0.0], ends[:-1]])
        yield from (word.box.xmin + (starts + ends) / 2 / ends[-1] * word.box.width).tolist()
        before = word


def _width(character: str) -> float:
    """Approximate width of a character in a proportional font; that of a lowercase letter is 1."""
    if character in "ijl.,:;'|!I()[]ftr`·":
        return 0.55
    return 1.5 if character in "mwMW@%—…" else 1.2 if character.isupper() else 1.0


def without_margin(size: Size) -> Box:
    """The box whose margin ends with an image of ``size``: an image of a line has some room around it."""
    room = size.height * MARGIN / (1 + 2 * MARGIN)
    return Box(room, room, size.height - room, size.width - room)
