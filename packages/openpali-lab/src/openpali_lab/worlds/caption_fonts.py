"""The fonts of the package, in its folder ``fonts``: what the captions of the nano world are written with.

    python -m openpali_lab.worlds.caption_fonts

cuts them out of Noto's fonts again; that needs the data sets ``stamps`` and ``clipart``, and fontTools.
"""

from __future__ import annotations

import sys
from collections.abc import Set
from pathlib import Path

from fontTools import subset

from openpali.home import FONTS, data_folder
from openpali_lab.worlds.world import World

# (first, last) of the blocks that are kept as far as the Latin font has them: a model may misspell a caption.
LATIN = ((" ", "ſ"), ("Ͱ", "Ͽ"), ("Ѐ", "џ"), ("‐", "…"))
KANA = (("、", "ヿ"),)
LOCAL = "locl"  # the feature that draws a character as Japanese, Korean or Chinese readers know it


def write(folder: Path) -> None:
    """Write ``NotoSans-Subset.ttf`` (Latin, Greek, Cyrillic) and ``NotoSansCJK-Subset.otf`` into a folder."""
    world, fonts = World.load("nano"), data_folder("stamps") / "fonts"
    said = {letter for stamp in world.stamps for code in world.languages for letter in stamp.captions[code]}
    latin = _characters(LATIN)
    _cut(fonts / "Latn/NotoSans-Regular.ttf", latin, folder / "NotoSans-Subset.ttf")
    _cut(
        fonts / "Hani/NotoSansCJK-Regular.ttc",
        (said | _characters(KANA)) - latin,
        folder / "NotoSansCJK-Subset.otf",
        layout_features=[LOCAL],
    )


def _characters(blocks: tuple[tuple[str, str], ...]) -> set[str]:
    return {chr(code) for first, last in blocks for code in range(ord(first), ord(last) + 1)}


def _cut(font: Path, characters: Set[str], path: Path, **options: object) -> None:
    """Write the part of a font that draws these characters."""
    chosen = subset.Options(font_number=0, hinting=False, notdef_outline=True, **options)
    loaded = subset.load_font(str(font), chosen)
    subsetter = subset.Subsetter(chosen)
    subsetter.populate(text="".join(sorted(characters)))
    subsetter.subset(loaded)
    subset.save_font(loaded, str(path), chosen)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else FONTS)
