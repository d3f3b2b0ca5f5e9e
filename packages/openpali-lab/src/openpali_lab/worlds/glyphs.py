"""Lines of text through FreeType: every hinting and anti-aliasing, outlines and bitmap fonts."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from openpali.messages import cannot_import

Mode = Literal["unhinted", "light", "hinted", "auto", "mono", "rgb", "bgr"]
MODES: tuple[Mode, ...] = ("unhinted", "light", "hinted", "auto", "mono", "rgb", "bgr")
STEPS = 4  # places between two pixels where an unhinted letter can begin


@dataclass(frozen=True)
class Glyph:
    """One letter: coverage uint8 ``[h, w, 1 or 3]``, where its corner is from the pen, and the step to the next."""

    cover: NDArray[np.uint8]
    left: int
    top: int
    advance: float


@dataclass(frozen=True)
class Row:
    """A line of text.

    Attributes:
        cover: float32 ``[h, w, 1 or 3]``, 0..1; three channels are the subpixels of an LCD.
        baseline: its row.
        ends: columns where the letters begin, and where the last ends, ``[len(text) + 1]``.
    """

    cover: NDArray[np.float32]
    baseline: int
    ends: NDArray[np.float64]


def write(text: str, file: Path, size: float, mode: Mode) -> Row:
    """Write a text in a font that has its letters: see :func:`can_write`.

    Args:
        size: pixels per em; a bitmap font takes its nearest size, and is in black and white in every mode.
    """
    loaded = face(file)
    strike = _set_size(file, size)
    pen, placed, ends = 0.0, [], [0.0]
    for letter in text:
        step = int(pen % 1 * STEPS) if mode in ("unhinted", "rgb", "bgr") and strike < 0 else 0
        drawn = _glyph(file, size, mode, letter, step)
        placed.append((int(pen) + drawn.left, drawn))
        pen += drawn.advance
        ends.append(pen)
    metrics = loaded.size
    above = max([round(metrics.ascender / 64), *(drawn.top for _, drawn in placed)])
    below = max([round(-metrics.descender / 64), *(len(drawn.cover) - drawn.top for _, drawn in placed)])
    first = min([0, *(left for left, _ in placed)])
    last = max([round(pen), *(left + drawn.cover.shape[1] for left, drawn in placed)])
    cover = np.zeros(
        (above + below, max(1, last - first), 3 if mode in ("rgb", "bgr") and strike < 0 else 1), np.uint8
    )
    for left, drawn in placed:
        height, width = drawn.cover.shape[:2]
        place = cover[above - drawn.top : above - drawn.top + height, left - first : left - first + width]
        np.maximum(place, drawn.cover, out=place)
    return Row(cover.astype(np.float32) / np.float32(255), above, np.array(ends) - first)


def can_write(file: Path, text: str) -> bool:
    """Whether a font has every letter of a text."""
    return all(_has(file, letter) for letter in text)


def sizes(file: Path) -> list[int]:
    """The sizes of a bitmap font, pixels per em; none of one with outlines."""
    loaded = face(file)
    return [] if loaded.is_scalable and file.suffix != ".pcf" else [size.height for size in loaded.available_sizes]


@lru_cache(maxsize=1024)
def face(file: Path) -> Any:
    """The opened font.

    Raises:
        ValueError: freetype-py is not installed.
    """
    try:
        import freetype
    except ImportError as error:
        raise ValueError(
            cannot_import("fonts of screens need freetype-py", "openpali-lab[pages]", error)
        ) from error
    return freetype.Face(str(file))


@lru_cache(maxsize=200_000)
def _has(file: Path, letter: str) -> bool:
    loaded = face(file)  # FreeType has chosen the characters of Unicode, unless the font has other ones alone
    return bool(loaded._FT_Face.contents.charmap) and bool(loaded.get_char_index(letter))


def _set_size(file: Path, size: float) -> int:
    """Set the size of a font; returns the number of its bitmaps of that size, or -1 for outlines."""
    loaded, own = face(file), sizes(file)
    if not own:
        loaded.set_char_size(round(size * 64), 0, 72, 72)
        return -1
    nearest = min(range(len(own)), key=lambda number: abs(own[number] - size))
    loaded.select_size(nearest)
    return nearest


@lru_cache(maxsize=50_000)
def _glyph(file: Path, size: float, mode: Mode, letter: str, step: int) -> Glyph:
    """A letter that begins ``step`` of :data:`STEPS` of a pixel after the pen; its font has ``size`` already."""
    import freetype as ft

    load, render = {
        "unhinted": (ft.FT_LOAD_NO_HINTING, ft.FT_RENDER_MODE_NORMAL),
        "light": (ft.FT_LOAD_TARGET_LIGHT, ft.FT_RENDER_MODE_NORMAL),
        "hinted": (ft.FT_LOAD_TARGET_NORMAL, ft.FT_RENDER_MODE_NORMAL),
        "auto": (ft.FT_LOAD_TARGET_NORMAL | ft.FT_LOAD_FORCE_AUTOHINT, ft.FT_RENDER_MODE_NORMAL),
        "mono": (ft.FT_LOAD_TARGET_MONO, ft.FT_RENDER_MODE_MONO),
        "rgb": (ft.FT_LOAD_TARGET_LIGHT, ft.FT_RENDER_MODE_LCD),
        "bgr": (ft.FT_LOAD_TARGET_LIGHT, ft.FT_RENDER_MODE_LCD),
    }[mode]
    loaded = face(file)
    loaded.load_char(letter, load)
    slot = loaded.glyph
    outline = slot.format == ft.FT_GLYPH_FORMAT_OUTLINE
    exact = outline and mode in ("unhinted", "rgb", "bgr")
    advance = slot.linearHoriAdvance / 65536 if exact else slot.advance.x / 64
    if outline:
        ft.FT_Outline_Translate(ctypes.byref(slot._FT_GlyphSlot.contents.outline), step * 64 // STEPS, 0)
        slot.render(render)
    bitmap = slot._FT_GlyphSlot.contents.bitmap
    rows, width, pitch = bitmap.rows, bitmap.width, abs(bitmap.pitch)
    if not rows or not width:
        return Glyph(np.zeros((0, 0, 1), np.uint8), 0, 0, advance)
    raw = np.frombuffer(ctypes.string_at(bitmap.buffer, rows * pitch), np.uint8).reshape(rows, pitch)
    if bitmap.pixel_mode == ft.FT_PIXEL_MODE_MONO:
        cover = np.unpackbits(raw, axis=1)[:, :width, None] * np.uint8(255)
    elif bitmap.pixel_mode == ft.FT_PIXEL_MODE_LCD:
        cover = raw[:, :width].reshape(rows, width // 3, 3)[..., :: -1 if mode == "bgr" else 1].copy()
    else:
        cover = raw[:, :width, None].copy()
    return Glyph(cover, slot.bitmap_left, slot.bitmap_top, advance)
