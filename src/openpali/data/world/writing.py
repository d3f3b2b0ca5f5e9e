"""Pictures of text: one word."""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openpali.data.world import backgrounds
from openpali.data.world.draw import TRIES, Draw
from openpali.data.world.fonts import font
from openpali.data.world.splits import is_heldout
from openpali.tasks.example import Example
from openpali.tasks.example import Image as Picture

LEAST_CONTRAST = 90  # of 255, between the brightness of letters and ground
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def word(
    draw: Draw, *, min_letters: int = 3, max_letters: int = 6, upper: bool = True, language: str = "en"
) -> Example:
    """One word on a calm background, 50 to 95 % of its width (at most 80 % of its height).

    It is turned by up to 5 degrees. One and two letters are random letters, longer ones are words of ``language``.
    Held out are a tenth of the words and of the pairs of letters; single letters differ only in their backgrounds.
    Raises ``ValueError`` where the world has no word of such a length.
    """
    text = _word(draw, draw.integer(min_letters, max_letters), language)
    text = text.upper() if upper else text
    files = draw.world.fonts["Latn"]
    ink = fitted(text, files[draw.integer(0, len(files) - 1)], draw)
    picture = backgrounds.calm(backgrounds.render(backgrounds.pick(draw.rng, draw.split), draw.canvas, draw.world))
    height, width = ink.shape
    top, left = draw.integer(0, draw.canvas - height), draw.integer(0, draw.canvas - width)
    stain(picture, ink, top, left, draw.rng)
    return Example(key=draw.key, images=[picture], captions={"en": [f"the word {text}"]}, text=text, lang=language)


def _word(draw: Draw, letters: int, language: str) -> str:
    if letters > 2:
        words = draw.world.words_by_length.get((language, draw.split, letters))
        if not words:
            raise ValueError(
                f"the world {draw.world.name} has no {draw.split} {language} words of {letters} letters"
            )
        return words[draw.integer(0, len(words) - 1)]
    for _ in range(TRIES):
        text = "".join(string.ascii_lowercase[draw.integer(0, 25)] for _ in range(letters))
        if letters == 1 or is_heldout("word", text) == draw.heldout:
            return text
    raise ValueError("no pair of letters is of this split")


def fitted(text: str, file: Path, draw: Draw) -> NDArray[np.float32]:
    """How much ink is where: ``text`` written as large as the draw decides, float32 [h, w] in 0..1, trimmed."""
    target = draw.uniform(0.5, 0.95) * draw.canvas
    left, top, right, bottom = font(file, 64).getbbox(text)
    size = int(64 * min(target / (right - left), 0.8 * draw.canvas / (bottom - top)))
    face = font(file, max(6, size))
    left, top, right, bottom = face.getbbox(text)
    mask, _ = face.getmask2(text, mode="L")
    image = Image.new("L", mask.size)
    image.im.paste(mask, (0, 0, *mask.size))
    image = image.rotate(draw.uniform(-5, 5), Image.Resampling.BILINEAR, expand=True)
    image.thumbnail((draw.canvas, draw.canvas), Image.Resampling.BILINEAR)
    image = image.crop(image.getbbox())
    return np.asarray(image, dtype=np.float32) * np.float32(1 / 255)


def stain(picture: Picture, ink: NDArray[np.float32], top: int, left: int, rng: np.random.Generator) -> None:
    """Writes ``ink`` onto ``picture`` (changed in place) in a colour that can be read there."""
    height, width = ink.shape
    region = picture[top : top + height, left : left + width]
    ground = float(region[::3, ::3].mean(axis=(0, 1), dtype=np.float32) @ LUMA)
    colour = (rng.random((16, 3), dtype=np.float32) * 255).astype(np.float32)
    readable = np.flatnonzero(np.abs(colour @ LUMA - ground) >= LEAST_CONTRAST)
    chosen = colour[readable[0]] if len(readable) else np.full(3, 0 if ground > 127 else 255, np.float32)
    cover = ink[..., None]
    region[...] = region * (1 - cover) + chosen * cover
