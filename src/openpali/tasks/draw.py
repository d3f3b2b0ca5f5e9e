"""Answers drawn on pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

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


def draw_answer(
    image: Image, objects: Sequence[Object] = (), text: str = "", *, font: ImageFont.FreeTypeFont | None = None
) -> PilImage.Image:
    """Draw objects on a picture and a text below it.

    Args:
        image: ``[H, W, 3]`` uint8 RGB.
        objects: their masks are tinted, their boxes outlined and named; one colour per name.
        text: written on a white strip below; the picture grows by the strip.
        font: for scripts that Pillow's own font lacks.
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
    face = font or ImageFont.load_default(max(10, round(min(width, height) / 28)))
    for thing, color in zip(objects, colors, strict=True):
        ymin, xmin, ymax, xmax = thing.box
        draw.rectangle((xmin, ymin, max(xmin, xmax - 1), max(ymin, ymax - 1)), outline=color, width=line)
        if thing.name:
            corner = (xmin + line, ymin + line)
            draw.rectangle(draw.textbbox(corner, thing.name, font=face), fill=color)
            draw.text(corner, thing.name, fill=(255, 255, 255), font=face)
    return _add_strip(picture, text, face) if text else picture


def sheet(tiles: Sequence[PilImage.Image], columns: int = 4) -> PilImage.Image:
    """Pictures side by side on white, ``columns`` in a row, in cells as large as the largest."""
    width, height = max(tile.width for tile in tiles), max(tile.height for tile in tiles)
    columns = min(columns, len(tiles))
    page = PilImage.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
    for i, tile in enumerate(tiles):
        page.paste(tile, (i % columns * width, i // columns * height))
    return page


def _add_strip(
    picture: PilImage.Image, text: str, face: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> PilImage.Image:
    margin = 4
    draw = ImageDraw.Draw(picture)
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and draw.textlength(longer, font=face) > picture.width - 2 * margin:
            lines.append(word)
        else:
            lines[-1] = longer
    wrapped = "\n".join(lines)
    bottom = draw.multiline_textbbox((margin, margin), wrapped, font=face)[3]
    canvas = PilImage.new("RGB", (picture.width, picture.height + round(bottom) + margin), (255, 255, 255))
    canvas.paste(picture)
    ImageDraw.Draw(canvas).multiline_text((margin, picture.height + margin), wrapped, fill=(0, 0, 0), font=face)
    return canvas
