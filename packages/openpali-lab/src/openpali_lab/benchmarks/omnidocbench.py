"""OmniDocBench 1.5: whole pages of books, papers, newspapers, slides and notes, read as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openpali.eval.benchmark import AnswerBenchmark
from openpali.infer.generate import Decoding
from openpali.metrics.scores import Scores
from openpali.tasks.example import Example
from openpali.tasks.scoring import Answered, texts, with_slices
from openpali_lab.benchmarks.files import Fields, Folder, Listing, listing, with_image
from openpali_lab.benchmarks.metrics.markdown_pages import FORMULA
from openpali_lab.benchmarks.metrics.omnidocbench import IGNORED, SCORED, Element, TruePage, omnidocbench
from openpali_lab.benchmarks.metrics.tables import require_parsers
from openpali_screen.parts import READER

PAGES, IMAGES = "omnidocbench/OmniDocBench.json", "omnidocbench/images"
HOME = "https://huggingface.co/datasets/opendatalab/OmniDocBench"
TABLE = "table"


@dataclass(frozen=True)
class Page(Example):
    """A page with what is annotated on it."""

    truth: TruePage = field(default=TruePage((), ()))


def open_omnidocbench(root: Path) -> Listing:
    """The pages that have text, formulas or tables; others have no score."""
    folder = Folder(root, "OmniDocBench", HOME)
    require_parsers()  # the scorer needs them: fail before answering, not after
    makers = []
    for entry in folder.rows(PAGES):
        truth = _truth(entry)
        if not truth.tables and not any(element.category in (*SCORED, FORMULA) for element in truth.elements):
            continue
        info = entry.entry("page_info")
        name = Path(info.text("image_path")).name
        language = info.entry("page_attribute").text("language")
        page = Page(
            Path(name).stem,
            text="\n\n".join([*(element.content for element in truth.elements), *truth.tables]),
            lang="en" if language == "english" else "zh",
            question_kind=language,
            truth=truth,
        )
        makers.append(with_image(page, folder, f"{IMAGES}/{name}"))
    return listing(makers, folder, f"pages in {PAGES}")


def _truth(entry: Fields) -> TruePage:
    """Elements by category, then by their order; those that a page break or column cut are joined."""
    found = entry.entries("layout_dets")
    by_id = {one.text("anno_id"): one for one in found}
    cut: list[list[str]] = []
    for relation in entry.entry("extra").entries("relation"):
        if relation.text("relation_type") == "truncated":
            ends = [relation.text("source_anno_id"), relation.text("target_anno_id")]
            if lost := [end for end in ends if end not in by_id]:
                raise ValueError(f"{relation.where}: there is no element {lost[0]}; the original is at {HOME}")
            known = [some for some in cut if not {*some}.isdisjoint(ends)]
            for some in known:
                some += ends
            cut += [] if known else [ends]
    joined = {number for some in cut for number in some}
    elements = [_element(one) for one in found if one.text("anno_id") not in joined and _category(one) != TABLE]
    for some in cut:
        parts = sorted((by_id[number] for number in some), key=_order)
        text = "".join(part.text("text") for part in parts)  # twice where two cuts meet, as in the official code
        elements.append(Element(_category(parts[0]), _order(parts[0]), text))
    ranks = {name: i for i, name in enumerate((*SCORED, *IGNORED, FORMULA))}
    kept = sorted((one for one in elements if one.category in ranks), key=lambda one: ranks[one.category])
    tables = sorted((one for one in found if _category(one) == TABLE), key=_order)
    return TruePage(
        sorted(kept, key=lambda one: one.order), [*filter(None, (table.text("html") for table in tables))]
    )


def _element(entry: Fields) -> Element:
    category = _category(entry)
    known = category in (*SCORED, *IGNORED, FORMULA)
    content = entry.text("latex" if category == FORMULA else "text") if known else ""
    return Element(category, _order(entry), content)


def _category(entry: Fields) -> str:
    return entry.text("category_type")


def _order(entry: Fields) -> float:
    return entry.number("order") if entry.values.get("order") else 0


def measure(example: Example) -> dict[str, Any]:
    """What is on a page, for the scorer."""
    assert isinstance(example, Page)
    elements = [[one.category, one.order, one.content] for one in example.truth.elements]
    return {"elements": elements, "tables": [*example.truth.tables]}


def edits(rows: Sequence[Answered]) -> Scores:
    """OmniDocBench 1.5's normalised edit distances of text and of reading order, and its TEDS."""
    truth = [TruePage([Element(*one) for one in row.values["elements"]], row.values["tables"]) for row in rows]
    return omnidocbench(texts(rows), truth)


BENCHMARKS = (
    AnswerBenchmark(
        name="omnidocbench",
        title="OmniDocBench 1.5",
        split="all pages with text or tables",
        metric="text_edit",
        layout=(PAGES, f"{IMAGES}/yanbaopptmerge_SE05.pdf_7.jpg, ..."),
        home=HOME,
        note="Lower is better for edit distances. Formulas (CDM, which needs LaTeX) and the overall score, which "
        "needs them, are left out. Slices are languages of pages.",
        open=open_omnidocbench,
        task="ocr",
        decoding=Decoding(max_tokens=1024),
        scorer=with_slices(edits),
        measure=measure,
        part=READER,
    ),
)
