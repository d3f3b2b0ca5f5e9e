"""docs/evaluation.md matches the code: its tables are generated, and the layouts that it shows are read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from official_layouts import ANSWERING

from openpali.eval.benchmark import AnswerBenchmark
from openpali.eval.registry import benchmarks, find_benchmark
from openpali_lab.benchmarks import paper, screens
from openpali_lab.documents.evaluation import write_into

DOCUMENT = Path(__file__).parents[2] / "docs" / "evaluation.md"


def test_the_tables_are_current(tmp_path: Path) -> None:
    copy = tmp_path / "evaluation.md"
    shutil.copy(DOCUMENT, copy)
    write_into(copy)
    assert copy.read_text("utf-8") == DOCUMENT.read_text("utf-8"), (
        "run: python -m openpali_lab.documents.evaluation"
    )


def test_every_benchmark_has_a_row() -> None:
    text = DOCUMENT.read_text("utf-8")
    suites = [*paper.suite(), *screens.suite()]
    assert len(suites) == len({b.name for b in suites})
    for each in suites:
        assert f"| `{each.name}` |" in text
        assert benchmarks()[each.name] is each


def test_a_document_without_marks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.md").write_text("nothing")
    with pytest.raises(ValueError):
        write_into(tmp_path / "x.md")


@pytest.mark.parametrize("name", list(ANSWERING))
def test_the_layout_that_is_shown_is_the_one_that_is_read(name: str, tmp_path: Path) -> None:
    """The test's files are read without fail elsewhere; here, that they are at the places of the table."""
    ANSWERING[name](tmp_path)
    found = find_benchmark(name)
    assert isinstance(found, AnswerBenchmark)
    for shown in found.layout:
        path = tmp_path / shown.partition(",")[0]
        if not shown.endswith("..."):
            assert path.is_file(), path
        elif name not in ("coco-captions", "tallyqa", "st-vqa"):  # of these, more folders than one
            assert any(each.suffix == path.suffix for each in path.parent.iterdir()), path
        else:
            assert path.parents[1].is_dir(), path
