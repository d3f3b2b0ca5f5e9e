"""``lines``: fonts of screens and documents by family, and lines of a manual in five languages, to print."""

from __future__ import annotations

import gzip
import re
from itertools import chain
from pathlib import Path

from PIL import ImageFont

from openpali_lab.tables import table_of
from openpali_lab.worlds.builders import packages
from openpali_lab.worlds.builders.base import Dataset
from openpali_lab.worlds.builders.output import write_licences
from openpali_lab.worlds.splits import is_heldout

FAMILIES: packages.Fonts = table_of(__file__)["families"]
MANUALS = {code: f"debian-reference-{code}" for code in ("en", "de", "fr", "es", "it")}
_RULED = re.compile(r"[|+=\s-]{8,}")  # a rule of a table
_CELLS = re.compile(r"\||\s{3,}")


def build(folder: Path) -> None:
    """Write ``fonts/<family>/`` and ``text-<language>.txt``, each line of which stood on a line of the manual."""
    packages.copy_fonts(FAMILIES, folder / "fonts")
    for language, package in MANUALS.items():
        [file] = (packages.fetch(package) / "usr/share/doc").rglob(f"debian-reference.{language}.txt.gz")
        lines = manual_lines(gzip.decompress(file.read_bytes()).decode("utf-8"))
        (folder / f"text-{language}.txt").write_text("\n".join(lines) + "\n", "utf-8")
    write_licences(folder, needed())


def needed() -> list[str]:
    """The packages that it is built from."""
    return [*dict.fromkeys(chain(*FAMILIES.values(), MANUALS.values()))]


def _learned() -> packages.Fonts:
    """Families of fonts that pages and windows are set in: those that no held-out line is printed in."""
    return {family: fonts for family, fonts in FAMILIES.items() if not is_heldout("font", family)}


def learned_packages() -> list[str]:
    """The packages of :func:`copy_learned`."""
    return [*chain(*_learned().values())]


def copy_learned(folder: Path) -> list[str]:
    """Copy the fonts that are learned from into a folder; returns the names of their families."""
    packages.copy_fonts(_learned(), folder)
    names = {ImageFont.truetype(str(path), 16).getname()[0] for path in folder.rglob("*.[to]t[fc]")}
    return sorted(name for name in names if name)


def manual_lines(text: str) -> list[str]:
    """The distinct lines of a plain text with a letter in them, in order; cells of tables are lines, too."""
    lines = (line for line in text.splitlines() if not _RULED.fullmatch(line))
    cells = (" ".join(cell.split()) for line in lines for cell in _CELLS.split(line))
    return [*dict.fromkeys(cell for cell in cells if any(c.isalpha() for c in cell))]


DATASET = Dataset(build, needed, minutes=0.1, megabytes=84)
