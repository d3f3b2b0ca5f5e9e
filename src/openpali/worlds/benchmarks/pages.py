"""Benchmarks of whole screens and pages that no one drew for it, with every word and its place."""

from __future__ import annotations

from pathlib import Path

from openpali.data.sources.registry import open_source
from openpali.eval.benchmark import PageBenchmark

_FOLDER = Path(__file__).parent
SCREENS, DOCUMENTS = _FOLDER / "real_screens.tar", _FOLDER / "real_documents.tar"
"""Made once by ``tests/eval/make_real_pages.py``; only for evaluation."""


def page_suite() -> list[PageBenchmark]:
    """Screens of a package of dashboards, half of them dark, and pages of a manual in ten languages."""
    return [
        PageBenchmark(
            name="real/screens",
            title="Words of real screens, half of them dark",
            split="all, 60 windows",
            open=lambda root: open_source(str(SCREENS), {}),
            kinds=("light", "dark"),
        ),
        PageBenchmark(
            name="real/documents",
            title="Words of printed pages, 100 to 150 dpi",
            split="all, 20 pages",
            open=lambda root: open_source(str(DOCUMENTS), {}),
        ),
    ]
