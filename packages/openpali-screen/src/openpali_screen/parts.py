"""The parts of a bundle that read screens and pages, and where their graphs are."""

from __future__ import annotations

from pathlib import Path

from openpali.weights.find import SHIPPED as BUNDLES
from openpali_screen.runtime import ABOUT, SHIPPED

FINDER = "finder"  # finds lines of text
READER = "reader"  # reads them
ELEMENTS = "elements"  # finds elements, such as buttons
ICONS = "icons"  # names icons
WORDS = (FINDER, READER)
PAGES = (*WORDS, ELEMENTS, ICONS)


def graphs_of(bundle: Path) -> Path | None:
    """The folder of a bundle's graphs: its own or, of the bundle that ships, in this package. None: it has none."""
    if (bundle / ABOUT).is_file():
        return bundle
    return SHIPPED if bundle == BUNDLES / SHIPPED.name else None
