"""Font files, opened once per process and size, and the glyphs in them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

SHIPPED = Path(__file__).parents[1] / "fonts"  # for the captions of the nano world: openpali.synth.caption_fonts
PILLOW = ""  # in place of a file: the font that Pillow ships


@lru_cache(maxsize=1024)
def font(file: Path | str, size: int) -> ImageFont.FreeTypeFont:
    """The font in ``file`` at ``size`` pixels per em."""
    face = ImageFont.truetype(str(file), size) if file != PILLOW else ImageFont.load_default(size)
    assert isinstance(face, ImageFont.FreeTypeFont)  # Pillow has FreeType on every supported platform
    return face


@lru_cache(maxsize=65536)
def has_glyph(file: Path | str, character: str, size: int = 24) -> bool:
    """Whether the font in ``file`` draws ``character`` differently from a character that no font contains."""
    face = font(file, size)
    try:
        return bytes(face.getmask(character)) != bytes(face.getmask("\U0010ffff"))
    except ValueError:  # Raqm cannot shape some characters alone, such as unassigned ones that are ignorable
        return False
