"""The shipped nano reads twelve pages of the real sets no worse than when the floors were set, less .01."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from openpali import Pali
from openpali.eval.benchmark import PageBenchmark
from openpali.metrics.words import word_f1
from openpali_lab.worlds.benchmarks.pages import page_suite
from openpali_screen.evaluate import words_of


@pytest.fixture(scope="module")
def pali() -> Pali:
    return Pali.from_pretrained("nano")


@pytest.mark.parametrize(
    ("name", "pattern", "pages", "floor"),
    [
        ("real/screens", "(calendar|profile|kanban)-1024-(light|dark)$", 3, 0.943),
        ("real/screens", "(faq|projects|chat)-420-(light|dark)$", 3, 0.94),
        ("real/screens", "(ColorPage|PdfViewPage)-dialog$", 2, 0.94),
        ("real/documents", " (de|fr|es)-(67|65|94)-", 3, 0.952),
        ("real/documents", " ru-46-", 1, 0.93),
    ],
)
def test_words_of_real_pages_do_not_get_worse(
    pali: Pali, name: str, pattern: str, pages: int, floor: float
) -> None:
    [benchmark] = [each for each in page_suite() if each.name == name]
    assert isinstance(benchmark, PageBenchmark)
    source = benchmark.open(Path())
    examples = [example for i in range(len(source)) if re.search(pattern, (example := source[i]).key)]
    assert len(examples) == pages
    answers = [words_of(pali)(example) for example in examples]
    scores = word_f1([found for found, _ in answers], [true for _, true in answers]).summary
    assert scores["word_f1"] >= floor
