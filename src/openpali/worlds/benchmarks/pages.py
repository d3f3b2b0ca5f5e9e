"""Benchmarks of whole screens and pages that no one drew for it, with every word and its place."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from openpali.data.sources.base import Source
from openpali.data.sources.registry import open_source
from openpali.eval.benchmark import AnswerPage, Benchmark, PageBenchmark
from openpali.eval.elements import elements_by, points_by
from openpali.eval.pages import words_by
from openpali.infer.pali import Pali
from openpali.metrics.boxes import detection_f1, right_boxes
from openpali.metrics.words import pointing
from openpali.weights.files import ELEMENTS, READER
from openpali.worlds.benchmarks.icons import REAL_ICONS

_FOLDER = Path(__file__).parent
SCREENS, DOCUMENTS = _FOLDER / "real_screens.tar", _FOLDER / "real_documents.tar"
"""Made once by ``tests/eval/make_real_pages.py``; only for evaluation."""

_windows = partial(
    PageBenchmark,
    split="all, 60 windows",
    open=lambda root: open_source(str(SCREENS), {}),
    kinds=("light", "dark"),
    part=ELEMENTS,
)


def open_screens() -> Source:
    """The windows and the dialogs."""
    return open_source(str(_FOLDER / "real_screens*.tar"), {})


def _dev(root: Path) -> Source:
    """Windows and pages of packages that nothing is learnt from or scored on."""
    return open_source("pages/dev-*", {})


def _words(pali: Pali) -> AnswerPage:
    return words_by(pali.read_words)


def page_suite() -> list[Benchmark]:
    """Words of screens (windows of dashboards, half of them dark, and native dialogs) and of pages of a manual in
    ten languages; elements of the windows, and what expressions mean there; and icons."""
    return [
        PageBenchmark(
            name="real/screens",
            title="Words of real screens, half of the windows dark",
            split="all, 60 windows and 14 dialogs",
            open=lambda root: open_screens(),
            kinds=("light", "dark", "dialog"),
            part=READER,
            answer=_words,
            calibration=_dev,
        ),
        PageBenchmark(
            name="real/documents",
            title="Words of printed pages, 100 to 150 dpi",
            split="all, 20 pages",
            open=lambda root: open_source(str(DOCUMENTS), {}),
            part=READER,
            answer=_words,
        ),
        _windows(
            name="real/elements",
            title="Elements of real screens by role, such as buttons",
            metric="f1@0.5",
            answer=elements_by,
            right=right_boxes,
            calibration=_dev,
            score=detection_f1,
        ),
        _windows(
            name="real/points",
            title="Elements of real screens by name and role: the point lies in the element",
            metric="pointing",
            answer=points_by,
            score=pointing,
        ),
        REAL_ICONS,
    ]
