"""Lines of screens: letters through FreeType in every way of smoothing, beside frames, icons and other lines."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import cache, partial
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageFilter

from openpali.home import data_folder
from openpali.tasks.example import Example, Image
from openpali.text.characters import plain
from openpali_lab.worlds import glyphs
from openpali_lab.worlds.lines import coloured
from openpali_lab.worlds.printed_texts import printed_text
from openpali_lab.worlds.sampler import TRIES, Sampler
from openpali_lab.worlds.splits import Split, is_heldout

EM = (7.0, 30.0)  # pixels
ASIDE = ("Charter", "Neep")  # held out beside those of the rule, which holds out too few bitmap fonts
BITMAP = 0.35  # share of lines in bitmap fonts
SCALES = (1.25, 1.5, 2.0)  # of a screen
WAYS: Mapping[glyphs.Mode, float] = {
    "unhinted": 0.13,
    "light": 0.22,
    "hinted": 0.16,
    "auto": 0.07,
    "mono": 0.22,
    "rgb": 0.14,
    "bgr": 0.06,
}
Cover = NDArray[np.float32]


def printed(sampler: Sampler, *, max_letters: int = 60) -> Example:
    """One line of a screen, 7 to 40 pixels high.

    A third of the lines are in bitmap fonts, a fifth of the rest unsmoothed; the others are smoothed in grey or for
    the subpixels of an LCD, with every hinting. Some touch a frame, an icon, a caret or the lines above and below.
    Texts: see :func:`~openpali_lab.worlds.printed_texts.printed_text`. Held-out lines have held-out words and
    fonts.

    Args:
        max_letters: largest number of characters, spaces included.
    """
    text, language, file, size, mode = _choose(sampler, max_letters)
    row = glyphs.write(text, file, size, mode)
    image = _worn(sampler, _placed(sampler, text, row, partial(glyphs.write, file=file, size=size, mode=mode)))
    text = plain(" ".join(text.split()))
    return Example(key=sampler.key, images=[image], captions={language: [text]}, text=text, lang=language)


@cache
def font_files(split: Split, bitmap: bool) -> Sequence[Sequence[Path]]:
    """Families of fonts of a split, bitmap fonts or outlines, each a list of files."""
    found: dict[str, list[Path]] = {}
    for name in ("lines", "printed"):
        for file in sorted((data_folder(name) / "fonts").glob("*/*")):
            family = file.parent.name
            held = is_heldout("font", family) or family in ASIDE
            if held == (split == "heldout") and bool(glyphs.sizes(file)) == bitmap and _is_useful(file):
                found.setdefault(family, []).append(file)
    return list(found.values())


def _is_useful(file: Path) -> bool:
    own = glyphs.sizes(file)
    letters = glyphs.can_write(file, "aegw") or glyphs.can_write(file, "авиж")
    return letters and (not own or any(7 <= size <= 40 for size in own))


def _choose(sampler: Sampler, most: int) -> tuple[str, str, Path, float, glyphs.Mode]:
    """A text, its language, a font that has its letters, a size in pixels per em, and how it is smoothed."""
    for _ in range(TRIES):
        text, language = printed_text(sampler, most)
        for _ in range(20):
            bitmap = sampler.uniform(0, 1) < BITMAP
            families = font_files(sampler.split, bitmap)
            files = families[sampler.integer(0, len(families) - 1)]
            file = files[sampler.integer(0, len(files) - 1)]
            if not glyphs.can_write(file, text):
                continue
            if bitmap:
                fitting = [size for size in glyphs.sizes(file) if 7 <= size <= 40]
                return text, language, file, fitting[sampler.integer(0, len(fitting) - 1)], "mono"
            chance = sampler.uniform(0, sum(WAYS.values()))
            mode = next(way for way, end in zip(WAYS, accumulate(WAYS.values()), strict=True) if chance <= end)
            # Most text of screens has 11 to 16 pixels; points of 96 dpi are multiples of a third.
            low, high = (9.0, 18.0) if sampler.uniform(0, 1) < 0.6 else EM
            size = sampler.uniform(max(low, 9.0) if mode == "mono" else low, high)
            return text, language, file, round(size) if sampler.uniform(0, 1) < 0.6 else round(size * 3) / 3, mode
    raise ValueError(f"no {sampler.split} font can write its lines: run `openpali data build printed --force`")


def _placed(sampler: Sampler, text: str, row: glyphs.Row, write: partial[glyphs.Row]) -> Image:
    """The line in colours, with the space around it and what stands there."""
    ink = row.cover
    height, width = ink.shape[:2]
    tight = sampler.uniform(0, 1) < 0.4
    above, below = (0 if tight else round(sampler.uniform(0, 0.3) * height) for _ in range(2))
    left, right = (round(sampler.uniform(0, 0.6) ** 2 * 1.6 * height) + sampler.integer(0, 1) for _ in range(2))
    icon, extra = None, sampler.uniform(0, 1)
    if extra < 0.08 and sampler.world.symbols:
        icon = sampler.world.symbols[sampler.integer(0, len(sampler.world.symbols) - 1)]
        left += height + sampler.integer(2, 5)
    sheet = np.zeros((above + height + below, left + width + right, ink.shape[2]), np.float32)
    _add(sheet, ink, above, left)
    base, thick = above + row.baseline, max(1, height // 16)
    starts = np.round(left + row.ends).astype(int)
    if sampler.uniform(0, 1) < 0.15:  # neighbours, which are cut off
        step = round(height * sampler.uniform(1.0, 1.25))
        shuffled = write(text[::-1])
        swapped = text.swapcase()
        other = write(swapped) if glyphs.can_write(write.keywords["file"], swapped) else shuffled
        _add(sheet, shuffled.cover, above - step, left)
        _add(sheet, other.cover, above + step, left)
    if 0.08 <= extra < 0.14:  # a mnemonic
        at = sampler.integer(0, len(text) - 1)
        sheet[base + thick : base + 2 * thick, starts[at] : starts[at + 1]] = 1
    elif 0.14 <= extra < 0.17:
        sheet[base + thick : base + 2 * thick, starts[0] : starts[-1]] = 1
    elif 0.17 <= extra < 0.18:
        middle = base - round(0.25 * height)
        sheet[middle : middle + thick, starts[0] : starts[-1]] = 1
    elif 0.18 <= extra < 0.21:  # a caret after the text
        sheet[above : above + height, starts[-1] + 1 : starts[-1] + 1 + thick] = 1
    elif 0.21 <= extra < 0.28:  # edges of a frame, an entry's or a button's
        edge = sampler.integer(1, 2)
        for side in range(4):
            if sampler.uniform(0, 1) < 0.6:
                part = (slice(edge), slice(-edge, None))[side % 2]
                sheet[part if side < 2 else slice(None), part if side >= 2 else slice(None)] = 1
    image = coloured(sampler, sheet)
    if extra >= 0.97 and len(text) > 3:  # a selection
        first = sampler.integer(0, len(text) - 2)
        last = sampler.integer(first + 1, len(text))
        if sampler.uniform(0, 1) < 0.5:
            first, last = 0, len(text)
        selected = image[:, starts[first] : starts[last]]
        selected[:] = 255 - selected
    elif icon is not None:
        side = max(6, round(height * sampler.uniform(0.7, 1)))
        small = icon.resize((side, side), PILImage.Resampling.BILINEAR)
        made = PILImage.fromarray(image)
        made.paste(small, (max(0, left - side - sampler.integer(2, 5)), above + (height - side) // 2), small)
        image = np.array(made)
    return image


def _add(sheet: Cover, ink: Cover, top: int, left: int) -> None:
    """Add ink to a sheet, as far as it is on it."""
    first, last = max(0, top), min(len(sheet), top + len(ink))
    end = min(sheet.shape[1], left + ink.shape[1])
    if first < last:
        place = sheet[first:last, left:end]
        np.maximum(place, ink[first - top : last - top, : end - left], out=place)


def _worn(sampler: Sampler, image: Image) -> Image:
    """The image after scaling of a screen, blur and JPEG's compression; most have gone through none of these."""
    chance = sampler.uniform(0, 1)
    if chance > 0.25:
        return image
    made = PILImage.fromarray(image)
    if chance < 0.13:
        scale = SCALES[sampler.integer(0, len(SCALES) - 1)]
        ways = (PILImage.Resampling.NEAREST, PILImage.Resampling.BILINEAR, PILImage.Resampling.BICUBIC)
        size = round(made.width * scale), round(made.height * scale)
        made = made.resize(size, ways[sampler.integer(0, 2)])
    elif chance < 0.16:
        made = made.filter(ImageFilter.GaussianBlur(sampler.uniform(0.3, 0.6)))
    else:
        file = io.BytesIO()
        made.save(file, "JPEG", quality=sampler.integer(50, 95))
        made = PILImage.open(file)
    return np.array(made)
