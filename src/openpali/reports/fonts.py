"""Fonts for text in any script: Pillow's own font, and the fonts of the data set ``stamps``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from unicodedata import category

from PIL import ImageFont

from openpali.home import home
from openpali.synth.fonts import PILLOW, font, has_glyph

Run = tuple[str, ImageFont.FreeTypeFont]  # neighbouring words that share a font


def find_font(text: str) -> Path | str | None:
    """A font with a glyph for every character of ``text``: Pillow's own (``PILLOW``) if it has them, else a file.

    ``None`` if no font has them, or if the data set ``stamps`` is not built.
    """
    return PILLOW if _can_write(PILLOW, text) else _find_file(home() / "data" / "stamps" / "fonts", text)


def split_runs(words: Sequence[str], size: int) -> list[Run]:
    """Join neighbouring words of the same font, so that right-to-left scripts keep their word order.

    Args:
        words: each can be written in one font, see :func:`replace_unwritable`.
        size: pixels per em.
    """
    grouped = groupby(words, find_font)
    return [(" ".join(group), font(file or PILLOW, size)) for file, group in grouped]


def replace_unwritable(text: str, note: str) -> list[str]:
    """The words of a text, with the words of ``note`` in place of each stretch that no font can write."""
    words: list[str] = []
    for writable, group in groupby(text.split(), lambda word: find_font(word) is not None):
        words += group if writable else note.split()
    return words


@lru_cache(maxsize=4096)
def _find_file(folder: Path, text: str) -> Path | None:
    # Plain styles first. The Latin fonts, which contain Greek and Cyrillic too, before those of other scripts.
    files = sorted(
        folder.glob("*/*"), key=lambda file: (file.parent.name != "Latn", "Serif" in file.stem, file.stem)
    )
    return next((file for file in files if _can_write(file, text)), None)


def _can_write(file: Path | str, text: str) -> bool:
    return all(c.isspace() or category(c) == "Cf" or has_glyph(file, c) for c in set(text))
