"""Answers drawn on pictures."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from unicodedata import category

import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

from openpali.tasks.base import Answer
from openpali.tasks.example import Image, Object

COLORS = (
    (230, 25, 75),
    (60, 180, 75),
    (0, 130, 200),
    (245, 130, 48),
    (145, 30, 180),
    (0, 160, 160),
    (240, 50, 230),
    (128, 128, 0),
)
_OPACITY = 0.45
_MARGIN = 4
NO_FONT = "(no font for this script: `openpali data build stamps` brings some)"

FontFor = Callable[[str], Path | None]
"""File of a font that can write a text; ``None`` where there is none."""

_Run = tuple[str, ImageFont.FreeTypeFont]  # words in one font


def draw_prediction(image: Image, answer: Answer, font_for: FontFor | None = None) -> PilImage.Image:
    """Draw an answer on its image ``[H, W, 3]``: its objects, or else its text below; see :func:`draw_answer`."""
    return draw_answer(image, answer.objects, "" if answer.objects else answer.text, font_for=font_for)


def draw_answer(
    image: Image, objects: Sequence[Object] = (), text: str = "", *, font_for: FontFor | None = None
) -> PilImage.Image:
    """Draw objects on a picture and a text below it.

    Args:
        image: ``[H, W, 3]`` uint8 RGB.
        objects: their masks are tinted, their boxes outlined and named; one colour per name.
        text: written on a white strip below; the picture grows by the strip.
        font_for: for scripts that Pillow's own font lacks; what no font can write, a note stands for.
    """
    names = list(dict.fromkeys(thing.name for thing in objects))
    colors = [COLORS[names.index(thing.name) % len(COLORS)] for thing in objects]

    pixels = image.astype(np.float32)
    for thing, color in zip(objects, colors, strict=True):
        if thing.mask is not None:
            pixels[thing.mask] += _OPACITY * (np.asarray(color, np.float32) - pixels[thing.mask])
    picture = PilImage.fromarray(pixels.round().astype(np.uint8))

    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    line = max(1, round(min(width, height) / 150))
    size = max(12, round(min(width, height) / 28))
    for thing, color in zip(objects, colors, strict=True):
        ymin, xmin, ymax, xmax = thing.box
        draw.rectangle((xmin, ymin, max(xmin, xmax - 1), max(ymin, ymax - 1)), outline=color, width=line)
        left = xmin + line
        for word, face in _runs(_legible(thing.name, font_for, "(no font)"), size, font_for):
            corner = (left, ymin + line)
            draw.rectangle(draw.textbbox(corner, word, font=face), fill=color)
            draw.text(corner, word, fill=(255, 255, 255), font=face)
            left += face.getlength(f"{word} ")
    return _add_strip(picture, text, size, font_for) if text else picture


def sheet(tiles: Sequence[PilImage.Image], columns: int = 4) -> PilImage.Image:
    """Pictures side by side on white, ``columns`` in a row, in cells as large as the largest."""
    width, height = max(tile.width for tile in tiles), max(tile.height for tile in tiles)
    columns = min(columns, len(tiles))
    page = PilImage.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
    for i, tile in enumerate(tiles):
        page.paste(tile, (i % columns * width, i // columns * height))
    return page


def _add_strip(picture: PilImage.Image, text: str, size: int, font_for: FontFor | None) -> PilImage.Image:
    lines: list[list[str]] = [[]]
    for word in _legible(text, font_for, NO_FONT):
        for part in _parts(word, picture.width - 2 * _MARGIN, size, font_for):
            if lines[-1] and _width([*lines[-1], part], size, font_for) > picture.width - 2 * _MARGIN:
                lines.append([])
            lines[-1].append(part)
    pitch = round(1.5 * size)  # room for the marks of every script
    canvas = PilImage.new("RGB", (picture.width, picture.height + len(lines) * pitch + _MARGIN), "white")
    canvas.paste(picture)
    draw = ImageDraw.Draw(canvas)
    for number, words in enumerate(lines):
        left, base = float(_MARGIN), picture.height + number * pitch + round(1.2 * size)
        for run, face in _runs(words, size, font_for):
            draw.text((left, base), run, fill="black", font=face, anchor="ls")  # all fonts on one base line
            left += face.getlength(f"{run} ")
    return canvas


def _parts(word: str, room: float, size: int, font_for: FontFor | None) -> Iterator[str]:
    """A word cut where it is wider than the picture, as sentences are in scripts without spaces."""

    def width(length: int) -> float:
        return _width([word[:length]], size, font_for)

    while len(word) > 1 and width(len(word)) > room:
        fits = 1 + bisect_right(range(2, len(word)), room, key=width)
        yield word[:fits]
        word = word[fits:]
    yield word


def _width(words: Sequence[str], size: int, font_for: FontFor | None) -> float:
    runs = _runs(words, size, font_for)
    return sum(face.getlength(f"{run} ") for run, face in runs) - runs[-1][1].getlength(" ")


def _legible(text: str, font_for: FontFor | None, note: str) -> list[str]:
    """The words of a text, and the note in the place of those that no font can write."""
    able = ((word, _font(word, font_for) is not None) for word in text.split())
    return [
        word
        for fine, group in groupby(able, lambda each: each[1])
        for word in ((word for word, _ in group) if fine else note.split())
    ]


def _font(word: str, font_for: FontFor | None) -> Path | str | None:
    """What to write a word in: a file, "" for Pillow's own font, ``None`` where there is nothing."""
    if can_write(_face("", 24), word):
        return ""
    return font_for(word) if font_for else None


def _runs(words: Sequence[str], size: int, font_for: FontFor | None) -> list[_Run]:
    """Words joined as far as they are in one font, so that scripts from right to left keep their order."""
    grouped = groupby(words, lambda word: _font(word, font_for))
    return [(" ".join(group), _face(font or "", size)) for font, group in grouped]


@lru_cache(maxsize=256)
def _face(file: Path | str, size: int) -> ImageFont.FreeTypeFont:
    face = ImageFont.truetype(str(file), size) if file else ImageFont.load_default(size)
    assert isinstance(face, ImageFont.FreeTypeFont)  # Pillow has FreeType on every platform we know
    return face


def can_write(face: ImageFont.FreeTypeFont, text: str) -> bool:
    """Whether a font has a glyph of its own for every character."""
    return all(_has_glyph(face, c) for c in set(text))


@lru_cache(maxsize=2**14)
def _has_glyph(face: ImageFont.FreeTypeFont, char: str) -> bool:
    if char.isspace() or category(char) == "Cf":
        return True
    return bytes(face.getmask(char)) != bytes(face.getmask("\U0010ffff"))
