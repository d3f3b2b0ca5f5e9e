"""``lines``: fonts of screens and documents by family, and lines of a manual in five languages, to print."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from PIL import ImageFont

from openpali_lab.worlds.builders import packages
from openpali_lab.worlds.builders.base import Dataset
from openpali_lab.worlds.builders.output import write_licences
from openpali_lab.worlds.splits import is_heldout

# Family -> (package, font files). A design and its clones are one family, since families are held out whole.
FAMILIES = {
    "AnonymousPro": (("fonts-anonymous-pro", ("Anonymous Pro", "Anonymous Pro B")),),
    "Biolinum": (("fonts-linuxlibertine", ("LinBiolinum_R", "LinBiolinum_RB")),),
    "Bookman": (("fonts-urw-base35", ("URWBookman-Light", "URWBookman-Demi")),),
    "Cabin": (("fonts-cabin", ("Cabin-Regular", "Cabin-Bold")),),
    "Caladea": (("fonts-crosextra-caladea", ("Caladea-Regular", "Caladea-Bold", "Caladea-Italic")),),
    "Cantarell": (("fonts-cantarell", ("Cantarell-VF",)),),
    "Cascadia": (("fonts-cascadia-code", ("CascadiaMono",)),),
    "Century": (("fonts-urw-base35", ("C059-Roman", "C059-Bold", "C059-Italic")),),
    "Comfortaa": (("fonts-comfortaa", ("Comfortaa-Light", "Comfortaa-Regular", "Comfortaa-Bold")),),
    "Courier": (
        ("fonts-courier-prime", ("Courier Prime", "Courier Prime Bold")),
        ("fonts-urw-base35", ("NimbusMonoPS-Regular", "NimbusMonoPS-Bold")),
    ),
    "DejaVu": (
        ("fonts-dejavu-core", ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSerif-Bold")),
        ("fonts-dejavu-mono", ("DejaVuSansMono", "DejaVuSansMono-Bold")),
        ("fonts-dejavu-extra", ("DejaVuSans-Oblique", "DejaVuSansCondensed", "DejaVuSerif-Italic")),
        ("fonts-hack", ("Hack-Regular", "Hack-Bold")),
    ),
    "EBGaramond": (("fonts-ebgaramond", ("EBGaramond12-Regular", "EBGaramond12-Bold", "EBGaramond12-Italic")),),
    "FiraCode": (("fonts-firacode", ("FiraCode-Light", "FiraCode-Regular", "FiraCode-Bold")),),
    "Gentium": (("fonts-sil-gentium", ("Gentium-R", "Gentium-I")),),
    "Gothic": (("fonts-urw-base35", ("URWGothic-Book", "URWGothic-Demi")),),
    "Helvetica": (
        ("fonts-liberation", ("LiberationSans-Regular", "LiberationSans-Bold", "LiberationSans-Italic")),
        ("fonts-urw-base35", ("NimbusSans-Regular", "NimbusSans-Bold", "NimbusSansNarrow-Regular")),
    ),
    "Inconsolata": (("fonts-inconsolata", ("Inconsolata",)),),
    "Inter": (("fonts-inter", ("Inter-Light", "Inter-Regular", "Inter-Medium", "Inter-Bold", "Inter-Italic")),),
    "JetBrainsMono": (("fonts-jetbrains-mono", ("JetBrainsMono-Regular", "JetBrainsMono-Bold")),),
    "Karla": (("fonts-karla", ("Karla-Light", "Karla-Regular", "Karla-Bold")),),
    "LatinModern": (
        ("fonts-lmodern", ("lmroman10-regular", "lmroman10-bold", "lmsans10-regular", "lmmono10-regular")),
    ),
    "Lato": (
        ("fonts-lato", ("Lato-Light", "Lato-Regular", "Lato-Bold", "Lato-Italic")),
        ("fonts-crosextra-carlito", ("Carlito-Regular", "Carlito-Bold")),
    ),
    "LiberationMono": (("fonts-liberation", ("LiberationMono-Regular", "LiberationMono-Bold")),),
    "Libertine": (("fonts-linuxlibertine", ("LinLibertine_R", "LinLibertine_RB", "LinLibertine_RI")),),
    "Mononoki": (("fonts-mononoki", ("mononoki-Regular", "mononoki-Bold")),),
    "NotoSans": (
        ("fonts-noto-core", ("NotoSans-Regular", "NotoSans-Bold", "NotoSans-Italic")),
        ("fonts-open-sans", ("OpenSans-Light", "OpenSans-Regular", "OpenSans-Semibold")),
    ),
    "NotoSerif": (("fonts-noto-core", ("NotoSerif-Regular", "NotoSerif-Bold", "NotoSerif-Italic")),),
    "Palatino": (("fonts-urw-base35", ("P052-Roman", "P052-Bold", "P052-Italic")),),
    "ParaType": (("fonts-paratype", ("PTS55F", "PTS75F", "PTF55F", "PTF75F", "PTM55F")),),
    "Quicksand": (("fonts-quicksand", ("Quicksand-Light", "Quicksand-Regular", "Quicksand-Bold")),),
    "Roboto": (
        (
            "fonts-roboto-unhinted",
            ("Roboto-Light", "Roboto-Regular", "Roboto-Medium", "Roboto-Bold", "RobotoCondensed-Regular"),
        ),
    ),
    "SourceSans": (("fonts-adobe-sourcesans3", ("SourceSans3-Light", "SourceSans3-Regular", "SourceSans3-Bold")),),
    "Times": (
        ("fonts-liberation", ("LiberationSerif-Regular", "LiberationSerif-Bold", "LiberationSerif-Italic")),
        ("fonts-urw-base35", ("NimbusRoman-Regular", "NimbusRoman-Bold")),
    ),
    "Vollkorn": (("fonts-vollkorn", ("Vollkorn-Regular", "Vollkorn-Bold", "Vollkorn-Italic")),),
}
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
    fonts = [package for sources in FAMILIES.values() for package, _ in sources]
    return [*dict.fromkeys([*fonts, *MANUALS.values()])]


def _learned() -> packages.Fonts:
    """Families of fonts that pages and windows are set in: those that no held-out line is printed in."""
    return {family: fonts for family, fonts in FAMILIES.items() if not is_heldout("font", family)}


def learned_packages() -> list[str]:
    """The packages of :func:`copy_learned`."""
    return [package for fonts in _learned().values() for package, _ in fonts]


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
