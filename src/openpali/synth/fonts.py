"""Fonts by file and size, opened once per process."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from PIL import ImageFont


@lru_cache(maxsize=1024)
def font(file: Path, size: int) -> ImageFont.FreeTypeFont:
    """The font in ``file`` at ``size`` pixels per em."""
    return ImageFont.truetype(str(file), size)


@lru_cache(maxsize=65536)
def has_glyph(file: Path, character: str) -> bool:
    """Whether the font in ``file`` draws ``character`` otherwise than a character that no font has."""
    face = font(file, 24)
    return bytes(face.getmask(character)) != bytes(face.getmask("\U0010ffff"))
