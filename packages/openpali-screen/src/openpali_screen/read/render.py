"""Lines of text as screens and scans show them, drawn through Pillow in any font."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFilter

from openpali.reports.fonts import font, has_glyph
from openpali.tasks.example import Box, Image, Line, Word

EM = (11.0, 36.0)  # pixels
_FINE = 3  # times finer than a pixel: three subpixels of an LCD
_SMOOTH = np.array([1, 2, 3, 2, 1], np.float32) / 9  # FreeType's filter against coloured fringes
_TALL = "dlgp"  # letters from the top to the bottom of a line
_CONTRAST = 90  # least difference of the means of ink and ground, of 255


def can_write(file: Path | str, text: str) -> bool:
    """Whether a font has a glyph for each character of a text but spaces."""
    return all(character.isspace() or has_glyph(file, character) for character in text)


def draw_line(
    words: Sequence[str], file: Path | str, rng: np.random.Generator, *, worn: bool = True
) -> tuple[Image, Line]:
    """Draw words side by side with some space around them.

    Letters are hinted, unhinted, not smoothed, or of the coloured subpixels of an LCD, in two colours.

    Args:
        file: a font that can write the words.
        worn: some lines have neighbours that are cut off, and some images are blurred or noisy, or were JPEGs.

    Returns:
        The image, uint8 ``[H, W, 3]``, and the line with the boxes of its words.
    """
    size, fine = np.exp(rng.uniform(*np.log(EM))), _FINE if rng.random() < 0.5 else 1
    face, text = font(file, round(size * fine)), " ".join(words)
    ends = [face.getlength(text[:count]) for count in range(len(text) + 1)]
    room = face.getbbox(text, anchor="ls")
    above, below = _extent(file)
    height = round((above + below) * face.size)
    left = round(rng.uniform(0.1, 0.9) * size) * fine - min(0, round(room[0]))
    top = round(rng.uniform(0.05, 0.5) * size) * fine
    base = top + round(above * face.size)
    width = left + round(max(room[2], ends[-1])) + round(rng.uniform(0.1, 0.9) * size) * fine
    sheet = PilImage.new("L", (width + -width % fine, top + height + round(rng.uniform(0.05, 0.5) * size) * fine))
    pen = ImageDraw.Draw(sheet)
    pen.fontmode = "1" if fine == 1 and rng.random() < 0.25 else "L"
    pen.text((left, base), text, fill=255, font=face, anchor="ls")
    if worn and rng.random() < 0.15:
        advance = height * rng.uniform(1.05, 1.4)
        for y in (base - advance, base + advance):
            pen.text((left, y), text[::-1], fill=255, font=face, anchor="ls")
    ink = np.asarray(sheet, np.float32)[..., None] / np.float32(255)
    ink = ink if fine == 1 else _reduced(ink, coloured=rng.random() < 0.4)
    ymin, ymax = top / fine, (top + height) / fine
    places, start = [], 0
    for word in words:
        stop = start + len(word)
        places.append(Word(word, Box(ymin, (left + ends[start]) / fine, ymax, (left + ends[stop]) / fine)))
        start = stop + 1
    image = _coloured(ink, rng)
    return _worn(image, rng) if worn else image, Line(places)


@lru_cache(maxsize=1024)
def _extent(file: Path | str) -> tuple[float, float]:
    """How far a line reaches above and below the baseline in a font, in heights of the em."""
    face = font(file, 100)
    _, top, _, bottom = face.getbbox(_TALL if can_write(file, _TALL) else "H", anchor="ls")
    return 0.05 - top / 100, 0.02 + bottom / 100


def _reduced(ink: NDArray[np.float32], *, coloured: bool) -> NDArray[np.float32]:
    """Coverage of pixels ``[h, w, 1]``, or of their subpixels ``[h, w, 3]``, from that of a finer grid."""
    rows = ink[: len(ink) // _FINE * _FINE, :, 0].reshape(-1, _FINE, ink.shape[1]).mean(1)
    if not coloured:
        return np.asarray(rows.reshape(len(rows), -1, _FINE).mean(2, keepdims=True), np.float32)
    smooth = np.stack([np.convolve(row, _SMOOTH, "same") for row in rows])
    return smooth.astype(np.float32).reshape(len(rows), -1, _FINE)


def _coloured(ink: NDArray[np.float32], rng: np.random.Generator) -> Image:
    """Ink on a ground; half is black or nearly so on white."""
    ground, colour = np.full(3, 255.0), np.full(3, rng.uniform(0, 60))
    while rng.random() < 0.5 or abs(ground.mean() - colour.mean()) < _CONTRAST:
        ground, colour = (np.clip(rng.uniform(0, 255) + rng.uniform(-30, 30, 3), 0, 255) for _ in range(2))
    return (ground * (1 - ink) + colour * ink).astype(np.uint8)


def _worn(image: Image, rng: np.random.Generator) -> Image:
    """The image after blur, noise or JPEG's compression; most are as they were."""
    made, chance = PilImage.fromarray(image), rng.random()
    if chance < 0.08:
        return np.array(made.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.7))))
    if chance < 0.14:
        noise = rng.normal(0, rng.uniform(2, 10), (made.height, made.width, 1))
        return np.clip(image + noise, 0, 255).astype(np.uint8)
    if chance < 0.34:
        file = io.BytesIO()
        made.save(file, "JPEG", quality=int(rng.integers(40, 96)))
        return np.array(PilImage.open(file))
    return image
