"""Fonts for text in any script: Pillow's own, those of the package, and those of the data set ``stamps``.

Images are drawn with them; HTML pages carry those of the package, for machines that have no such fonts.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from unicodedata import category

from PIL import ImageFont

from openpali.home import FONTS, home

PILLOW = ""  # in place of a file: the font that Pillow ships
LATIN = "\u024f"  # the last letter of Unicode's first blocks, which are Latin
Run = tuple[str, ImageFont.FreeTypeFont]  # neighbouring words that share a font


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


def find_font(text: str) -> Path | str | None:
    """A font with a glyph for every character of ``text``: Pillow's own (``PILLOW``) if it has them, else a file.

    The package's fonts have Greek, Cyrillic, and what the nano world says in Japanese, Korean and Chinese; the data
    set ``stamps``, if it is built, has others. ``None`` if no font has all characters.
    """
    if _can_write(PILLOW, text):
        return PILLOW
    return next((file for file in _shipped() if _can_write(file, text)), None) or _find_file(
        home() / "data" / "stamps" / "fonts", text
    )


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


def font_faces(text: str) -> tuple[str, str]:
    """CSS for the letters of a text that are not Latin: rules that embed fonts of the package, and their names.

    The names begin a ``font-family``, ``"name", "name", ``: a font of the system in front of them would draw boxes,
    since Chromium looks no further than ``system-ui``. Both are empty if all letters are Latin, which every machine
    can show.
    """
    letters = {letter for letter in text if letter.isalpha() and letter > LATIN}
    files = [file for file in _shipped() if any(has_glyph(file, letter) for letter in letters)]
    rules = (
        f'@font-face {{ font-family: "{file.stem}"; unicode-range: U+{ord(LATIN) + 1:x}-10ffff; '
        f"src: url(data:font/{file.suffix[1:]};base64,{base64.b64encode(file.read_bytes()).decode()}) }}"
        for file in files
    )
    return "\n".join(rules), "".join(f'"{file.stem}", ' for file in files)


def _shipped() -> Sequence[Path]:
    return sorted(FONTS.glob("*.[ot]tf"))


@lru_cache(maxsize=4096)
def _find_file(folder: Path, text: str) -> Path | None:
    # Plain styles first. The Latin fonts, which contain Greek and Cyrillic too, before those of other scripts.
    files = sorted(
        folder.glob("*/*"), key=lambda file: (file.parent.name != "Latn", "Serif" in file.stem, file.stem)
    )
    return next((file for file in files if _can_write(file, text)), None)


def _can_write(file: Path | str, text: str) -> bool:
    return all(c.isspace() or category(c) == "Cf" or has_glyph(file, c) for c in set(text))
