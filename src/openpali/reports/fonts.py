"""Fonts to draw answers with, in every script that the built data sets have one for."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

from openpali.home import home
from openpali.reports.drawing import can_write


def font_for(text: str) -> Path | None:
    """A font of the data set ``stamps`` that has every character of ``text``; ``None`` if there is none, or the
    data set is not built."""
    return _font_for(home() / "data" / "stamps" / "fonts", text)


@lru_cache(maxsize=4096)
def _font_for(folder: Path, text: str) -> Path | None:
    # The plain ones first; the Latin ones are Greek and Cyrillic too.
    files = sorted(
        folder.glob("*/*"), key=lambda file: (file.parent.name != "Latn", "Serif" in file.stem, file.stem)
    )
    return next((file for file in files if can_write(_face(file), text)), None)


@lru_cache(maxsize=64)
def _face(file: Path) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(file), 24)
