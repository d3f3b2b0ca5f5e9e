"""TEDS equals that of the official code of OCRBench v2 and OmniDocBench 1.5 on made-up, often broken tables."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from openpali_lab.benchmarks.metrics.tables import html_similarity

GOLDEN = json.loads(Path(__file__).with_name("golden_tables.json").read_text("utf-8"))
CELL = "<table><tr><td>ab</td></tr></table>"


def test_similarities_are_those_of_the_official_code() -> None:
    for row in GOLDEN:
        assert html_similarity(row["answer"], row["table"]) == pytest.approx(row["teds"]), row
        if "structure" in row:
            assert html_similarity(row["answer"], row["table"], structure=True) == pytest.approx(row["structure"])


@pytest.mark.parametrize(
    ("answer", "similarity"),
    [("<table><tr><td>ac</td>", 0.75), ("<tr><td>ab</td></tr>", 0), ("<table><td colspan=x>ab", 0), (CELL, 1)],
)
def test_an_answer_of_one_cell(answer: str, similarity: float) -> None:
    assert html_similarity(answer, CELL) == similarity


def test_tables_without_lxml_are_an_error_and_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lxml", None)
    with pytest.raises(ValueError, match="lxml"):
        html_similarity(CELL, CELL)
