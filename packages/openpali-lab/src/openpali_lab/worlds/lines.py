"""Printed lines as they stand in screenshots, documents and labels, cut out at the size they were printed in."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFilter, ImageFont, features

from openpali.reports.fonts import font, has_glyph
from openpali.tasks.example import Box, Example, Image, Object
from openpali_lab.worlds.line_texts import is_novel, line_text
from openpali_lab.worlds.sampler import TRIES, Sampler
from openpali_lab.worlds.writing import LUMA, MIN_CONTRAST

EM = (10.0, 32.0)  # pixels: lines 12 to 40 pixels high
SCALES = (0.5, 0.67, 0.75, 0.8, 0.9, 1.1, 1.25, 1.5, 2.0)  # of images that were resized after printing
FINE = 3  # times finer than a pixel: three subpixels of an LCD
SUBPIXELS = np.array([1, 2, 3, 2, 1], np.float32) / 9  # FreeType's default filter against coloured fringes
# Fonts for programmers draw "->" and "!=" as one sign, which is another text.
FEATURES = ["-calt", "-dlig"] if features.check("raqm") else None

Coverage = NDArray[np.float32]  # [h, w, 1], or [h, w, 3] for subpixels, in 0..1


def line(sampler: Sampler, *, max_letters: int = 24, stops: float = 0.0) -> Example:
    """One printed line, 12 to 40 pixels high, in an image just larger than it.

    Texts: see :func:`~openpali_lab.worlds.line_texts.line_text`. Every family of fonts is equally likely. Letters
    are hinted, unhinted or of coloured subpixels, dark on light or light on dark; some lines are spaced,
    underlined, framed or have neighbours that are cut off, and some images are scaled, blurred, noisy or were
    JPEGs. Held-out lines have held-out words and fonts. Images have the size of the line, not of the canvas.

    The objects are the letters; their boxes are as high as the line's letters can be.

    Args:
        max_letters: largest number of characters, spaces included.
        stops: share of lines that get three stops at their end, as placeholders of fields have: three equal
            characters side by side are what a reader with CTC finds hardest.
    """
    text, file, language = _choose(sampler, max_letters)
    if stops and sampler.uniform(0, 1) < stops:
        text = _with_stops(text, sampler.heldout)
    size = math.exp(sampler.uniform(*map(math.log, EM)))
    scale = SCALES[sampler.integer(0, len(SCALES) - 1)] if sampler.uniform(0, 1) < 0.25 else 1.0
    ink, boxes = _printed(sampler, text, file, max(8, round(size / scale)))
    image = _worn(sampler, coloured(sampler, ink), scale)
    sides = np.array(image.shape[:2] * 2)
    letters = [Object(letter, Box(*(box * sides).tolist())) for letter, box in zip(text, boxes, strict=True)]
    return Example(
        key=sampler.key,
        images=[image],
        captions={language: [text]},
        text=text,
        lang=language,
        objects=[letter for letter in letters if letter.name != " "],
    )


def _choose(sampler: Sampler, max_letters: int) -> tuple[str, Path, str]:
    """A text, a font that can write it, and the text's language."""
    families = sampler.world.families[sampler.split]
    for _ in range(TRIES):
        files = families[sampler.integer(0, len(families) - 1)]
        file = files[sampler.integer(0, len(files) - 1)]
        text, language = line_text(sampler, max_letters)
        if all(has_glyph(file, character) for character in text if character != " "):
            return text, file, language
    raise ValueError(f"no {sampler.split} font of the world {sampler.world.name} can write its lines")


def _with_stops(text: str, heldout: bool) -> str:
    """Three stops after a text, unless that is a line of the other split."""
    longer = f"{text.rstrip('.,:;…')}..."
    return longer if is_novel(longer) == heldout else text


def _printed(sampler: Sampler, text: str, file: Path, size: int) -> tuple[Coverage, NDArray[np.float64]]:
    """The line at ``size`` pixels per em with the space around it.

    Returns:
        Its coverage, and the boxes of its characters ``[len(text), 4]`` as shares of height and width.
    """
    fine = FINE if sampler.uniform(0, 1) < 0.4 else 1
    face = font(file, size * fine)
    pitch = (sampler.uniform(0.02, 0.2) if sampler.uniform(0, 1) < 0.12 else 0) * size * fine
    ascent, descent = face.getmetrics()
    above, below = (round(sampler.uniform(0, 0.3) * size) * fine for _ in range(2))
    left, right = (round(sampler.uniform(0, 0.6) ** 2 * 2 * size) * fine for _ in range(2))
    jitter = sampler.integer(0, fine - 1)  # where between two pixels a letter begins
    room = face.getbbox(text, features=FEATURES)
    width = math.ceil(max(room[2], face.getlength(text, features=FEATURES)) + pitch * len(text)) + left + right
    sheet = PILImage.new("L", (width + -width % fine, above + ascent + descent + below))
    write = partial(_write, ImageDraw.Draw(sheet), face=face, pitch=pitch)
    at = left - min(0, room[0]) + jitter, above + ascent
    write(text, at)
    decoration = sampler.uniform(0, 1)
    if decoration < 0.08:
        advance = sampler.uniform(1.1, 1.4) * size * fine
        write(text[::-1], (at[0], at[1] - advance))
        write(text.swapcase(), (at[0], at[1] + advance))
    elif decoration < 0.13:
        under, thickness = round(at[1] + 0.12 * size * fine), max(1, size // 14) * fine
        ImageDraw.Draw(sheet).rectangle((left, under, width - right, under + thickness - 1), fill=255)
    elif decoration < 0.18:
        ImageDraw.Draw(sheet).rectangle((0, 0, sheet.width - 1, sheet.height - 1), outline=255, width=fine)
    ink = np.asarray(sheet, np.float32) * np.float32(1 / 255)
    cover = ink[..., None] if fine == 1 else _reduced(ink, coloured=sampler.uniform(0, 1) < 0.4)
    ends = at[0] + np.array([face.getlength(text[:count], features=FEATURES) for count in range(len(text) + 1)])
    spaced = pitch * np.arange(len(text))
    boxes = np.stack(np.broadcast_arrays(at[1] - ascent, ends[:-1] + spaced, at[1] + descent, ends[1:] + spaced), 1)
    return cover, boxes / np.array([sheet.height, sheet.width] * 2)


def _write(
    pen: ImageDraw.ImageDraw, text: str, at: tuple[float, float], *, face: ImageFont.FreeTypeFont, pitch: float
) -> None:
    """Write ``text`` from its baseline's start, with ``pitch`` pixels more after each letter."""
    if not pitch:
        pen.text(at, text, fill=255, font=face, anchor="ls", features=FEATURES)
        return
    for number, letter in enumerate(text):
        before = face.getlength(text[:number], features=FEATURES) + number * pitch
        pen.text((at[0] + before, at[1]), letter, fill=255, font=face, anchor="ls")


def _reduced(ink: NDArray[np.float32], *, coloured: bool) -> Coverage:
    """Coverage of pixels from that of a grid :data:`FINE` times as fine."""
    rows = ink[: len(ink) // FINE * FINE].reshape(-1, FINE, ink.shape[1]).mean(axis=1)
    if not coloured:
        return np.asarray(rows.reshape(len(rows), -1, FINE).mean(axis=2, keepdims=True), np.float32)
    padded = np.pad(rows, ((0, 0), (2, 2)))
    smooth = sum(weight * padded[:, i : i + rows.shape[1]] for i, weight in enumerate(SUBPIXELS))
    return np.asarray(smooth, np.float32).reshape(len(rows), -1, FINE)


def coloured(sampler: Sampler, ink: Coverage) -> Image:
    """Ink on a ground, in colours that can be told apart."""
    chance = sampler.uniform(0, 1)
    if chance < 0.3:
        ground = np.full(3, 255, np.float32)
    else:
        low, high = (205, 255) if chance < 0.6 else (0, 70) if chance < 0.85 else (0, 255)
        ground = _colour(sampler, low, high)
    for _ in range(TRIES):
        colour = _colour(sampler, 0, 255)
        if sampler.uniform(0, 1) < 0.6:  # most print is nearly black or white
            colour *= np.float32(0.25)
            colour = 255 - colour if ground @ LUMA < 128 else colour
        if abs((colour - ground) @ LUMA) >= MIN_CONTRAST:
            break
    height, width = ink.shape[:2]
    kind = sampler.uniform(0, 1)
    sheet = np.broadcast_to(ground, (height, width, 3))
    if kind < 0.12:
        slope = np.linspace(-1, 1, width if kind < 0.06 else height, dtype=np.float32) * sampler.uniform(5, 25)
        sheet = sheet + (slope[None, :, None] if kind < 0.06 else slope[:, None, None])
    return np.clip(sheet * (1 - ink) + colour * ink, 0, 255).astype(np.uint8)


def _colour(sampler: Sampler, low: float, high: float) -> NDArray[np.float32]:
    """Grey in two of three cases, or a tint of it."""
    grey = sampler.uniform(low, high)
    if sampler.uniform(0, 1) < 2 / 3:
        return np.full(3, grey, np.float32)
    tint: NDArray[np.float32] = grey + 60 * (sampler.rng.random(3, dtype=np.float32) - np.float32(0.5))
    return tint.clip(0, 255)


def _worn(sampler: Sampler, image: Image, scale: float) -> Image:
    """The image after scaling, blur, noise and JPEG's compression; most have gone through none of these."""
    made = PILImage.fromarray(image)
    if scale != 1:
        size = max(1, round(made.width * scale)), max(1, round(made.height * scale))
        filters: Sequence[PILImage.Resampling] = (
            PILImage.Resampling.BILINEAR,
            PILImage.Resampling.BICUBIC,
            PILImage.Resampling.LANCZOS,
        )
        made = made.resize(size, filters[sampler.integer(0, 2)])
    if sampler.uniform(0, 1) < 0.08:
        made = made.filter(ImageFilter.GaussianBlur(sampler.uniform(0.3, 0.7)))
    if sampler.uniform(0, 1) < 0.06:
        noise = sampler.rng.normal(0, sampler.uniform(2, 10), (made.height, made.width, 1))
        made = PILImage.fromarray(np.clip(np.asarray(made) + noise, 0, 255).astype(np.uint8))
    if sampler.uniform(0, 1) < 0.25:
        file = io.BytesIO()
        made.save(file, "JPEG", quality=sampler.integer(30, 95))
        made = PILImage.open(file)
    return np.array(made)
