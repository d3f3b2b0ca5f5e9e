"""Images of text: one word, or a document of several lines in one of many scripts."""

from __future__ import annotations

import math
import re
import string
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageDraw

from openpali.reports.fonts import font, has_glyph
from openpali.tasks.example import Box, Example, Image, Object
from openpali_lab.worlds import backgrounds
from openpali_lab.worlds.sampler import TRIES, Sampler
from openpali_lab.worlds.splits import is_heldout

MIN_FONT_SIZE = 8  # pixels per em
MIN_CONTRAST = 90  # of 255, between the brightness of letters and background
UNUSUAL = re.compile("Italic|Oblique|Mono|Condensed")  # font styles that signs rarely use
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
SCRIPTS = {  # first word of a character's Unicode name -> ISO 15924 script of the fonts that contain it
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


def word(sampler: Sampler, *, min_letters: int = 3, max_letters: int = 6, language: str = "en") -> Example:
    """One word in capitals on a pale background without other letters, rotated by up to 5 degrees.

    It takes 85 to 95 % of the canvas' width (and at most 80 % of its height); one or two letters take a third or
    two thirds of that, so that letters have the same size as in words. One or two letters are drawn at random,
    longer words come from a word list. A tenth of the words and of the pairs of letters is
    held out; single letters are in both splits and differ only in their backgrounds.

    Args:
        min_letters: least number of letters.
        max_letters: largest number of letters.
        language: of the word list.
    """
    text = _word(sampler, sampler.integer(min_letters, max_letters), language).upper()
    files = [file for file in sampler.world.fonts["Latn"] if not UNUSUAL.search(file.stem)]
    ink, letters = fitted(text, files[sampler.integer(0, len(files) - 1)], sampler)
    image = _ground(sampler)
    height, width = ink.shape
    top, left = sampler.integer(0, sampler.canvas - height), sampler.integer(0, sampler.canvas - width)
    stain(image, ink, top, left, sampler.rng)
    return Example(
        key=sampler.key,
        images=[image],
        captions={"en": [f"the word {text}"]},
        text=text,
        lang=language,
        objects=[letter.moved(top, left) for letter in letters],
    )


def _ground(sampler: Sampler) -> Image:
    """A background to write on: pale, and without letters."""
    ground = backgrounds.pick(sampler.rng, sampler.split, but="text")
    return backgrounds.pale(backgrounds.render(ground, sampler.canvas, sampler.world))


def _word(sampler: Sampler, letters: int, language: str) -> str:
    if letters > 2:
        known = sampler.world.words.get(language)
        words = known.by_length.get((sampler.split, letters)) if known else None
        if not words:
            raise ValueError(
                f"the world {sampler.world.name} has no {sampler.split} {language} words of {letters} letters: "
                "change min_letters, max_letters or language"
            )
        return words[sampler.integer(0, len(words) - 1)]
    for _ in range(TRIES):
        text = "".join(string.ascii_lowercase[sampler.integer(0, 25)] for _ in range(letters))
        if letters == 1 or is_heldout("word", text) == sampler.heldout:
            return text
    raise ValueError(f"no pair of letters belongs to the split {sampler.split}")


def fitted(text: str, file: Path, sampler: Sampler) -> tuple[NDArray[np.float32], list[Object]]:
    """``text`` in a random size and rotation, without empty margins.

    Returns:
        Its coverage, float32 [h, w] in 0..1, and its letters as objects, with boxes within it.
    """
    target = sampler.uniform(0.85, 0.95) * sampler.canvas * min(1, len(text) / 3)
    left, top, right, bottom = font(file, 64).getbbox(text)
    size = int(64 * min(target / (right - left), 0.8 * sampler.canvas / (bottom - top)))
    face = font(file, max(6, size))
    left, top, right, bottom = face.getbbox(text)
    mask, _ = face.getmask2(text, mode="L")
    image = PILImage.new("L", mask.size)
    image.im.paste(mask, (0, 0, *mask.size))
    degrees, flat = sampler.uniform(-5, 5), image.size
    image = image.rotate(degrees, PILImage.Resampling.BILINEAR, expand=True)
    rotated = image.size
    image.thumbnail((sampler.canvas, sampler.canvas), PILImage.Resampling.BILINEAR)
    scale = image.width / rotated[0]
    x0, y0, x1, y1 = image.getbbox() or (0, 0, *image.size)
    ends = [face.getlength(text[:count]) - left for count in range(len(text) + 1)]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    letters = []
    for letter, start, end in zip(text, ends[:-1], ends[1:], strict=True):
        from_middle = (start + end - flat[0]) / 2  # along the baseline
        x, y = rotated[0] / 2 + cos * from_middle, rotated[1] / 2 - sin * from_middle
        half = (end - start) / 2, flat[1] / 2
        edges = y - half[1], x - half[0], y + half[1], x + half[0]
        low, high = np.array([y0, x0] * 2), np.array([y1, x1] * 2)
        letters.append(Object(letter, Box(*(np.clip(scale * np.array(edges), low, high) - low).tolist())))
    image = image.crop((x0, y0, x1, y1))
    return np.asarray(image, dtype=np.float32) * np.float32(1 / 255), letters


def stain(image: Image, ink: NDArray[np.float32], top: int, left: int, rng: np.random.Generator) -> None:
    """Blend ``ink``, float32 [h, w] in 0..1, into ``image`` in place, in a colour that can be read there."""
    height, width = ink.shape
    region = image[top : top + height, left : left + width]
    ground = float(region[::3, ::3].mean(axis=(0, 1), dtype=np.float32) @ LUMA)
    colour = (rng.random((16, 3), dtype=np.float32) * 255).astype(np.float32)
    readable = np.flatnonzero(np.abs(colour @ LUMA - ground) >= MIN_CONTRAST)
    chosen = colour[readable[0]] if len(readable) else np.full(3, 0 if ground > 127 else 255, np.float32)
    cover = ink[..., None]
    region[...] = region * (1 - cover) + chosen * cover


def document(
    sampler: Sampler, *, min_lines: int = 2, max_lines: int = 4, languages: Sequence[str] | None = None
) -> Example:
    """Lines of text in one language: a poster (centred), a page (left-aligned) or a form ("thing: number").

    The lines are captions of stamps; ``text`` joins them by newlines, ``lang`` is their language. Letters are at
    least 8 pixels per em, so a small canvas holds fewer and shorter lines. A tenth of the lines is held out.

    Args:
        min_lines: least number of lines.
        max_lines: largest number of lines.
        languages: to choose from; by default all of the world's.
    """
    codes = tuple(languages or sampler.world.languages)
    for attempt in range(TRIES):
        if attempt % 50 == 0:  # keep a language for 50 tries, so that languages with long captions are not rarer
            language = codes[sampler.integer(0, len(codes) - 1)]
        layout = ("poster", "page", "form")[sampler.integer(0, 2)]
        lines = _lines(sampler, language, sampler.integer(min_lines, max_lines))
        if layout == "form":
            lines = [f"{line}: {sampler.integer(1, 99)}" for line in lines]
        file = _file(sampler, "".join(lines))
        if file and (ink := _typeset(sampler, lines, file, centred=layout == "poster")) is not None:
            break
    else:
        raise ValueError(
            f"no line in {', '.join(codes)} fits on {sampler.canvas} pixels in the fonts of the world "
            f"{sampler.world.name}: enlarge the canvas or choose other languages"
        )
    image = _ground(sampler)
    stain(image, ink, 0, 0, sampler.rng)
    return Example(key=sampler.key, images=[image], text="\n".join(lines), lang=language)


def _lines(sampler: Sampler, language: str, count: int) -> list[str]:
    """Up to ``count`` distinct captions of the sample's split."""
    found: dict[str, None] = {}
    for _ in range(20 * count):
        line = sampler.stamp().captions.get(language)
        if line and is_heldout("line", line) == sampler.heldout:
            found[line] = None
        if len(found) == count:
            break
    return list(found)


def _file(sampler: Sampler, text: str) -> Path | None:
    """A random font of the world that can write ``text``."""
    scripts = {SCRIPTS.get(unicodedata.name(c, "?").split(" ")[0], "?") for c in text if c.isalpha()}
    scripts = scripts - {"Latn"} or scripts
    files = sampler.world.fonts.get(scripts.pop(), ()) if len(scripts) == 1 else ()
    able = [file for file in files if all(has_glyph(file, c) for c in text if not c.isspace())]
    return able[sampler.integer(0, len(able) - 1)] if able else None


def _typeset(sampler: Sampler, lines: Sequence[str], file: Path, centred: bool) -> NDArray[np.float32] | None:
    """Coverage of the lines, float32 [canvas, canvas] in 0..1; ``None`` if they would be too small to read."""
    face = font(file, 32)
    widest = max(face.getlength(line) for line in lines)
    room = 0.94 * sampler.canvas
    largest = min(32 * room / widest, room / (1.35 * len(lines)))
    if largest < MIN_FONT_SIZE:
        return None
    size = int(sampler.uniform(max(MIN_FONT_SIZE, 0.6 * largest), largest))
    image = PILImage.new("L", (sampler.canvas, sampler.canvas))
    pen, face, pitch = ImageDraw.Draw(image), font(file, size), 1.35 * size
    widths = [face.getlength(line) for line in lines]
    left = sampler.uniform(0.03 * sampler.canvas, 0.97 * sampler.canvas - max(widths))
    top = sampler.uniform(0.03 * sampler.canvas, 0.97 * sampler.canvas - pitch * len(lines))
    for number, (line, width) in enumerate(zip(lines, widths, strict=True)):
        indent = (max(widths) - width) / 2 if centred else 0
        pen.text((left + indent, top + number * pitch), line, fill=255, font=face)
    return np.asarray(image, dtype=np.float32) * np.float32(1 / 255)
