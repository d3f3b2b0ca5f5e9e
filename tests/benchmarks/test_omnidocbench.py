"""OmniDocBench: edit distances equal those of its owners' code, and pages are read as they annotate them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from official_layouts import ANSWERING, draw, dump

from openpali.eval.benchmark import AnswerBenchmark
from openpali.eval.registry import find_benchmark
from openpali.tasks.scoring import Answered
from openpali_lab.benchmarks.metrics.markdown_pages import Piece, pieces
from openpali_lab.benchmarks.metrics.omnidocbench import (
    Element,
    TruePage,
    _disjoint,
    normal_formula,
    normal_text,
    omnidocbench,
)
from openpali_lab.benchmarks.omnidocbench import BENCHMARKS, Page, measure

GOLDEN = json.loads(Path(__file__).with_name("golden_pages.json").read_text("utf-8"))
BENCHMARK = find_benchmark("omnidocbench")
assert isinstance(BENCHMARK, AnswerBenchmark)


def write(root: Path, *annotated: dict[str, Any]) -> list[Page]:
    """The pages as the benchmark reads them."""
    rows = []
    for number, one in enumerate(annotated):
        info = {"page_attribute": {"language": "english"}, "image_path": f"images/page_{number}.png"}
        draw(root / "omnidocbench" / "images" / f"page_{number}.png")
        rows.append({**one, "page_info": info})
    dump(root / "omnidocbench" / "OmniDocBench.json", rows)
    source = BENCHMARK.open(root)
    found = [source[i] for i in range(len(source))]
    assert all(isinstance(each, Page) for each in found)
    return found  # type: ignore[return-value]


def answered(page: Page, text: str) -> Answered:
    return Answered(0, page.key, "p", text, (page.text,), page.question_kind, json.loads(json.dumps(measure(page))))


def test_distances_are_those_of_the_official_code(tmp_path: Path) -> None:
    kept = ("text_block", "title", "code_txt", "code_txt_caption", "reference", "equation_isolated", "table")
    counted = [row for row in GOLDEN if any(one["category_type"] in kept for one in row["page"]["layout_dets"])]
    assert len(counted) > 150
    pages = write(tmp_path, *(row["page"] for row in counted))
    assert len(pages) == len(counted)
    for row, page in zip(counted, pages, strict=True):
        told = omnidocbench([row["answer"], "x"], [page.truth, TruePage([Element("title", 1, "x")], [])])
        for name in ("text_edit", "order_edit"):  # none of a page of formulas that were written as text
            value, alone = told.per_sample[name], row[name] is None
            assert value == pytest.approx([0, 0] if alone else [row[name], 0]), (page.key, name)
            assert told.summary[name] == pytest.approx(0 if alone else row[name] / 2)
        for number, name in enumerate(("table_teds", "table_teds_structure")):
            values = [each[number] for each in row["teds"]]
            assert (name in told.summary) == bool(values)
            if values:
                assert told.summary[name] == pytest.approx(sum(values) / len(values)), (page.key, name)
    similar = [each for row in counted for each in row["teds"]]
    assert len(similar) > 150
    assert sum(0 < whole < 1 for whole, _ in similar) > 30


def test_pages_are_read_as_their_owners_read_them(tmp_path: Path) -> None:
    ANSWERING["omnidocbench"](tmp_path)
    page = BENCHMARK.open(tmp_path)[1]
    assert isinstance(page, Page)
    assert (page.lang, page.question_kind) == ("en", "english")
    assert page.truth == TruePage(
        [
            Element("page_number", 0, "12"),  # without an order first
            Element("title", 1, "Page 1"),
            Element("text_block", 2, "It is cut in two columns."),
            Element("equation_isolated", 4, "$$x^{2}$$"),
        ],
        ["<table><tr><td>a</td></tr></table>"],
    )


@pytest.mark.parametrize(
    ("answer", "text_edit", "order_edit"),
    [
        ("Page 1\n\nIt is cut in two columns.\n\n$$x^{2}$$", 0, 0),
        ("It is cut in two columns.\n\nPage 1\n\n12", 0, 1),  # two texts exchanged; the page number may be anywhere
        ("12\n\nPage 1\n\nIt was cut in two columns.", 2 / 25, 0),  # of page1 and itwascutintwocolumns
        ("", 1, 1),
    ],
)
def test_scores_of_a_page(answer: str, text_edit: float, order_edit: float, tmp_path: Path) -> None:
    ANSWERING["omnidocbench"](tmp_path)
    page = BENCHMARK.open(tmp_path)[1]
    assert isinstance(page, Page)
    scores = BENCHMARK.score([answered(page, answer)])
    wanted = {"text_edit": text_edit, "order_edit": order_edit, "table_teds": 0, "table_teds_structure": 0}
    slices = {f"{name}/english": value for name, value in wanted.items()}
    assert scores.summary == pytest.approx(wanted | slices)
    assert scores.per_sample == {name: [pytest.approx(value)] for name, value in wanted.items()}


def test_scores_are_means_over_pages_with_text() -> None:
    text, formula = TruePage([Element("title", 1, "ab")], []), TruePage([Element("equation_isolated", 1, "x")], [])
    scores = omnidocbench(["ab", "ax", ""], [text, text, formula])
    assert scores.summary == {"text_edit": 0.25, "order_edit": 0}
    assert scores.per_sample == {"text_edit": [0, 0.75, 0], "order_edit": [0, 0, 0]}
    with pytest.raises(ValueError, match="no page has text"):
        omnidocbench([""], [formula])
    assert omnidocbench(["ab", "x"], [text, formula]).per_sample["text_edit"] == [0, 0]  # written as text


def test_a_slice_without_text_does_not_end_the_evaluation() -> None:
    def row(kind: str, answer: str, *element: Any) -> Answered:
        return Answered(0, kind, "", answer, (), kind, {"elements": [element], "tables": []})

    [benchmark] = BENCHMARKS
    scores = benchmark.scorer(
        [row("english", "ab", "title", 1, "ab"), row("formulas", "", "equation_isolated", 1, "x")]
    )
    assert scores.summary == {"text_edit": 0, "order_edit": 0, "text_edit/english": 0, "order_edit/english": 0}


def test_what_is_near_a_header_is_not_matched_with_text() -> None:
    page = TruePage([Element("header", 0, "abcdefghij"), Element("text_block", 1, "abcdefghijk")], [])
    far, near = (omnidocbench([answer], [page]).summary for answer in ("abcdefgXYZ", "abcdefghXY"))
    assert far == pytest.approx({"text_edit": 4 / 11, "order_edit": 0})
    assert near == {"text_edit": 1, "order_edit": 1}


def test_of_runs_that_overlap_the_cheapest_disjoint_ones_are_joined() -> None:
    assert _disjoint([([4], 0.9), ([0, 1], 0.2), ([1, 2], 0.1), ([2, 3], 0.3)]) == [[1, 2], [4]]
    assert _disjoint([([0, 1], 0.2), ([1, 2], 0.4), ([2, 3], 0.3)]) == [[0, 1], [2, 3]]
    assert _disjoint([([0, 1], 0.5), ([1], 0.4), ([0, 1], 0.3)]) == [[0, 1]]  # the same run twice


def test_a_relation_to_nothing_is_reported(tmp_path: Path) -> None:
    row = dict(GOLDEN[0]["page"])
    row["extra"] = {"relation": [{"relation_type": "truncated", "source_anno_id": 10, "target_anno_id": 99}]}
    with pytest.raises(ValueError, match=r"entry 1, extra, relation\[0\]: there is no element 99.*OmniDocBench"):
        write(tmp_path, row)


def test_pieces_of_a_page() -> None:
    table = "<table><tr><td>a</td></tr></table>"
    page = f"# Title\n\nsome $x_1$ ![](a.png)text\n\n$$y\n= 1$$\n\n{table}\n```latex\nend\n```"
    assert pieces(page) == [
        Piece("text_all", 0, "# Title", "text_block"),
        Piece("text_all", 7, "some $x_1$ text", "text_block"),
        Piece("equation_isolated", 14, "\\[x_1\\]", "equation_inline"),
        Piece("equation_isolated", 26, "\\[y = 1\\]", ""),
        Piece("text_all", 31, "end", "text_block"),
        Piece("html_table", 37, table, ""),
    ]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("A cat's 2 tails: _x_\t", "Acats2tails_x_"),
        ("of $\\alpha_{i}$ and $n$", "ofα_iandn"),
        ("\\(x^2\\) 50\\%", "x250"),
        ("页面，的", "页面的"),
    ],
)
def test_normal_form_of_text(text: str, normal: str) -> None:
    assert normal_text(text) == normal


def test_normal_form_of_formulas() -> None:
    assert (
        normal_formula("$$\\begin{aligned} \\mathbf{X} = \\left( y \\right) \\tag{3} \\end{aligned}.$$")
        == "{x}=(y)"
    )
