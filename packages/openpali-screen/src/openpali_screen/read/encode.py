"""Pages -> arrays, for the objective that reads lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image as PilImage

from openpali.data.media.images import Preprocess
from openpali.data.media.native import AnyPreprocess
from openpali.data.pipeline.encode import Arrays, Batch, first_image
from openpali.metrics.words import holds_centre
from openpali.tasks.base import require
from openpali.tasks.example import Box, Example, Image, Line, Word, around
from openpali.text.characters import CHARACTERS, numbers_of, plain
from openpali_screen.geometry import Size
from openpali_screen.views import MARGIN, PATCH, WIDTHS, end_at, recolour, view_of_line, without_margin
from openpali_screen.vit import CELLS

_ICONS = 0.06  # share of pieces that are an icon, which says nothing
_BESIDE = 0.4  # share of lines beside an icon that are seen with it, as a finder may take both for one
_NEAR = 0.7  # heights of a line within which an icon is beside it


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
        characters: that the reader writes; a line that has others is left out.
    """

    pieces: int = 8
    steps: int = CELLS
    recoloured: float = 0.3
    characters: Sequence[str] = CHARACTERS

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
        text, box = example.text, Box(*without_margin(Size(*example.size)))
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
        numbers = numbers_of(text, self.characters)
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
