"""Pictures of text: one word, or a document of several lines in any of many scripts."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from openpali.synth import backgrounds
from openpali.synth.draw import TRIES, Draw
from openpali.synth.fonts import font, has_glyph
from openpali.synth.splits import is_heldout
from openpali.tasks.example import Example
from openpali.tasks.example import Image as Picture

LEAST_LETTERS = 8  # pixels per em
LEAST_CONTRAST = 90  # of 255, between the brightness of letters and ground
UNUSUAL = re.compile("Italic|Oblique|Mono|Condensed")  # fonts in which signs are not written
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
SCRIPTS = {  # first word of a character's Unicode name -> script of the fonts that have it
    **dict.fromkeys(("LATIN", "GREEK", "CYRILLIC"), "Latn"),
    **dict.fromkeys(("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "FULLWIDTH"), "Hani"),
    "ARABIC": "Arab",
    "ARMENIAN": "Armn",
    "DEVANAGARI": "Deva",
    "ETHIOPIC": "Ethi",
    "GEORGIAN": "Geor",
    "GUJARATI": "Gujr",
    "HEBREW": "Hebr",
    "KHMER": "Khmr",
    "MALAYALAM": "Mlym",
    "TAMIL": "Taml",
    "THAI": "Thai",
}


def word(
    draw: Draw, *, min_letters: int = 3, max_letters: int = 6, upper: bool = True, language: str = "en"
) -> Example:
    """One word, dark on a pale background without letters, 85 to 95 % of its width (at most 80 % of its height).

    One and two letters take a third and two thirds of that, so that their size is that of letters in words. It is
    turned by up to 5 degrees. One and two letters are random letters, longer ones are words of ``language``. Held
    out are a tenth of the words and of the pairs of letters; single letters differ only in their backgrounds.
    Raises ``ValueError`` where the world has no word of such a length.
    """
    text = _word(draw, draw.integer(min_letters, max_letters), language)
    text = text.upper() if upper else text
    files = [file for file in draw.world.fonts["Latn"] if not UNUSUAL.search(file.stem)]
    ink = fitted(text, files[draw.integer(0, len(files) - 1)], draw)
    picture = _ground(draw)
    height, width = ink.shape
    top, left = draw.integer(0, draw.canvas - height), draw.integer(0, draw.canvas - width)
    stain(picture, ink, top, left, draw.rng)
    return Example(key=draw.key, images=[picture], captions={"en": [f"the word {text}"]}, text=text, lang=language)


def _ground(draw: Draw) -> Picture:
    """A background that can be written on: pale, and without letters of its own."""
    ground = backgrounds.pick(draw.rng, draw.split, but="text")
    return backgrounds.pale(backgrounds.render(ground, draw.canvas, draw.world))


def _word(draw: Draw, letters: int, language: str) -> str:
    if letters > 2:
        known = draw.world.words.get(language)
        words = known.by_length.get((draw.split, letters)) if known else None
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
    target = draw.uniform(0.85, 0.95) * draw.canvas * min(1, len(text) / 3)
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


def document(
    draw: Draw, *, min_lines: int = 2, max_lines: int = 4, languages: Sequence[str] | None = None
) -> Example:
    """Lines of text in one language: a poster (centred), a page (from the left) or a form ("thing: number").

    The lines are captions of stamps; ``text`` joins them by newlines, ``lang`` is their language, one of
    ``languages`` (all of the world's if not given). Letters are at least 8 pixels high, so a small canvas holds
    fewer and shorter lines. Held out is a tenth of the lines. Raises ``ValueError`` where no font of the world can
    write the language, or no caption fits.
    """
    codes = tuple(languages or draw.world.languages)
    for attempt in range(TRIES):
        if attempt % 50 == 0:  # kept for a while, so that languages with long captions come up as often as others
            language = codes[draw.integer(0, len(codes) - 1)]
        layout = ("poster", "page", "form")[draw.integer(0, 2)]
        lines = _lines(draw, language, draw.integer(min_lines, max_lines))
        if layout == "form":
            lines = [f"{line}: {draw.integer(1, 99)}" for line in lines]
        file = _file(draw, "".join(lines))
        if file and (ink := _typeset(draw, lines, file, centred=layout == "poster")) is not None:
            break
    else:
        raise ValueError(f"no line in {', '.join(codes)} fits on {draw.canvas} pixels in the fonts of the world")
    picture = _ground(draw)
    stain(picture, ink, 0, 0, draw.rng)
    return Example(key=draw.key, images=[picture], text="\n".join(lines), lang=language)


def _lines(draw: Draw, language: str, count: int) -> list[str]:
    """Up to ``count`` different captions of the draw's split."""
    found: dict[str, None] = {}
    for _ in range(20 * count):
        line = draw.stamp().captions.get(language)
        if line and is_heldout("line", line) == draw.heldout:
            found[line] = None
        if len(found) == count:
            break
    return list(found)


def _file(draw: Draw, text: str) -> Path | None:
    """A random font of the world that can write ``text``."""
    scripts = {SCRIPTS.get(unicodedata.name(c, "?").split(" ")[0], "?") for c in text if c.isalpha()}
    scripts = scripts - {"Latn"} or scripts
    files = draw.world.fonts.get(scripts.pop(), ()) if len(scripts) == 1 else ()
    able = [file for file in files if all(has_glyph(file, c) for c in text if not c.isspace())]
    return able[draw.integer(0, len(able) - 1)] if able else None


def _typeset(draw: Draw, lines: Sequence[str], file: Path, centred: bool) -> NDArray[np.float32] | None:
    """The lines as ink, float32 [canvas, canvas] in 0..1; ``None`` if they would be too small to read."""
    face = font(file, 32)
    widest = max(face.getlength(line) for line in lines)
    room = 0.94 * draw.canvas
    largest = min(32 * room / widest, room / (1.35 * len(lines)))
    if largest < LEAST_LETTERS:
        return None
    size = int(draw.uniform(max(LEAST_LETTERS, 0.6 * largest), largest))
    image = Image.new("L", (draw.canvas, draw.canvas))
    pen, face, pitch = ImageDraw.Draw(image), font(file, size), 1.35 * size
    widths = [face.getlength(line) for line in lines]
    left = draw.uniform(0.03 * draw.canvas, 0.97 * draw.canvas - max(widths))
    top = draw.uniform(0.03 * draw.canvas, 0.97 * draw.canvas - pitch * len(lines))
    for number, (line, width) in enumerate(zip(lines, widths, strict=True)):
        indent = (max(widths) - width) / 2 if centred else 0
        pen.text((left + indent, top + number * pitch), line, fill=255, font=face)
    return np.asarray(image, dtype=np.float32) * np.float32(1 / 255)
