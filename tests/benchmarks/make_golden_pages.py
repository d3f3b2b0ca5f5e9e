"""Writes golden_pages.json: made-up pages in OmniDocBench's format, answers, and what its own code makes of them.

``python tests/benchmarks/make_golden_pages.py CHECKOUT``, with a checkout of github.com/opendatalab/OmniDocBench of
version 1.5 (December 2025) and with Levenshtein, beautifulsoup4, lxml, apted and pylatexenc==3.0a30. Packages that
its matching imports and does not need are replaced by empty ones.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import random
import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

WORDS = (
    "page",
    "model",
    "reads",
    "every",
    "line",
    "table",
    "and",
    "all",
    "below",
    "columns",
    "of",
    "small",
    "print",
)
CHINESE = "页面的文字在表格下面分为两栏而标题在上面"
FORMULAS = (
    r"x^{2}+y_{1}=\mathbf{z}",
    r"\begin{array}{l} a_{1}=b \\ c=\frac{d}{e} \end{array}",
    r"\sum_{i} \alpha_i \leq 1 \tag{3}",
    r"\begin{array}{ll} a & b \\ c & d \end{array}",
    "p = q",
)
INLINE = (r"$\alpha_{i}$", r"$n$", r"\(x^2\)", r"$50\%$", r"${}^{\circ}C$", r"$a \\$")
TABLE = "<table><tr><td>{}</td><td>{}</td></tr><tr><td>1</td><td>2</td></tr></table>"
EXTRA = (
    "![](images/1.jpg)",
    "<html><body>" + TABLE.format("sum", r"$\cdot$3") + "</body></html>",
    "<table><tr><td>a<br>b</td><td><b>bold</b></td><td>not closed",
    "| a | b |\n|---|---|\n| 1 | two words |\n\n| c |\n|:-:|\n| 3 |\n",
    "\\begin{tabular}{l} a & b \\\\ c \\end{tabular}  tail",
    "\\begin{table}\\begin{tabular}{l} d \\end{tabular}\\end{table}",
    "```python\nprint(1)\n``` done",
    "```markdown\nfenced words\n```",
    "\\title{A title} \\section*{ Part } \\text{ plain }",
    "$$", "$a$", "________ and        gaps", "# Heading", "* * *",
)  # fmt: skip


def text(rng: random.Random) -> str:
    if rng.random() < 0.2:
        return "".join(rng.choice(CHINESE) for _ in range(rng.randrange(3, 60)))
    words = [rng.choice(WORDS) for _ in range(rng.randrange(1, 25))]
    if rng.random() < 0.3:
        words.insert(rng.randrange(len(words)), rng.choice(INLINE))
    return " ".join(words)


def page(rng: random.Random) -> tuple[dict[str, Any], str]:
    """A page as it is annotated, and an answer."""
    kinds = [*["text_block"] * 6, "title", "title", "equation_isolated", "equation_isolated", "table", "header"]
    kinds += ["page_number", "figure_caption", "reference", "code_txt", "figure", "abandon"]
    found, blocks = [], []
    for number in range(rng.randrange(1, 9)):
        kind = rng.choice(kinds)
        ordered = kind not in ("header", "page_number", "abandon")
        element = {"category_type": kind, "order": number + 1 if ordered else None, "anno_id": 10 + number}
        if kind == "equation_isolated":
            element["latex"] = f"$${rng.choice(FORMULAS)}$$"
            said = rng.choice([element["latex"], f"\\[{element['latex'][2:-2]}\\]", "x2 + y1 = z"])
        elif kind == "table":
            element |= {"html": TABLE.format(*rng.sample(WORDS, 2)), "latex": EXTRA[4]}
            said = rng.choice([element["html"], "| a | b |\n|---|---|\n| 1 | 2 |", EXTRA[4]])
        elif kind in ("figure", "abandon"):
            said = "![](f.png)"
        else:
            said = rng.choice(["—", "12"]) if rng.random() < 0.05 else text(rng)
            if blocks and rng.random() < 0.4:  # nearly the same as the one before
                said = blocks[-1].replace(rng.choice(WORDS), rng.choice(WORDS))
            element["text"] = said
        found.append(element)
        blocks.append(said)
    texts = [one["anno_id"] for one in found if one["category_type"] in ("text_block", "title", "reference")]
    relations = []
    if len(texts) > 2 and rng.random() < 0.5:
        pairs = [texts[:2], texts[1:3]][: rng.randrange(1, 3)]
        relations = [
            {"relation_type": "truncated", "source_anno_id": one, "target_anno_id": other} for one, other in pairs
        ]
    return {"layout_dets": found, "extra": {"relation": relations}}, "\n\n".join(changed(blocks, rng))


def changed(blocks: list[str], rng: random.Random) -> list[str]:
    """The blocks with some of the mistakes that models make."""
    blocks = [*blocks]
    for _ in range(rng.randrange(10)):
        i = rng.randrange(len(blocks)) if blocks else 0
        match rng.randrange(7):
            case 0 if blocks:
                del blocks[i]
            case 1 if blocks:
                j = rng.randrange(len(blocks))
                blocks[i], blocks[j] = blocks[j], blocks[i]
            case 2 if blocks and len(blocks[i]) > 3:
                at = rng.randrange(1, len(blocks[i]))
                blocks[i : i + 1] = [blocks[i][:at], blocks[i][at:]]
            case 3 if len(blocks) > i + 1:
                blocks[i : i + 2] = [blocks[i] + rng.choice([" ", "\n", ""]) + blocks[i + 1]]
            case 4:
                blocks.insert(i, rng.choice(EXTRA))
            case 5 if blocks:
                blocks[i] = "".join(char for char in blocks[i] if rng.random() > 0.25)
            case 6:
                blocks.insert(i, text(rng))
    return blocks


def tables_page(rng: random.Random) -> tuple[dict[str, Any], str]:
    """A page of tables, and an answer with tables that are like them."""
    tables = [table(rng) for _ in range(rng.randrange(1, 4))]
    found = [
        {"category_type": "table", "order": i + 1, "anno_id": i, "html": each, "latex": EXTRA[4]}
        for i, each in enumerate(tables)
    ]
    said = [spoilt(each, rng) for each in tables if rng.random() > 0.1]
    rng.shuffle(said)
    said += [table(rng)] * (rng.random() < 0.2) + [EXTRA[4]] * (rng.random() < 0.2)
    return {"layout_dets": found, "extra": {"relation": []}}, "\n\n".join(changed(said, rng))


def table(rng: random.Random) -> str:
    """A table in HTML, with most of what a normal form takes away."""
    rows = []
    for number in range(rng.randrange(1, 5)):
        tag = "th" if number == 0 and rng.random() < 0.5 else "td"
        spans = [
            "",
            "",
            "",
            ' colspan="2"',
            ' rowspan="2"',
            ' style="text-align: left"',
            ' class="c" align="center"',
        ]
        cells = (f"<{tag}{rng.choice(spans)}>{cell(rng)}</{tag}>" for _ in range(rng.randrange(1, 4)))
        rows.append(f"<tr>{''.join(cells)}</tr>")
    if rng.random() < 0.3:
        rows = [f"<thead>{rows[0]}</thead>", "<tbody>", *rows[1:], "</tbody>"]
    columns = "<colgroup><col/><col/></colgroup>" if rng.random() < 0.2 else ""
    joiner = rng.choice(["", "", "\n"])
    start = rng.choice(["<table>", '<table border="1">', "<table  width='9'>"])
    return f"{start}{columns}{joiner.join(rows)}</table>"


def cell(rng: random.Random) -> str:
    word = rng.choice([*WORDS, "", "12.5 %", "a &lt; b", "&amp;", "表格", "ﬁne", "two  spaces"])
    inner = "<math alttext='x^{2}'><mi>x</mi></math>"
    return rng.choice(
        ["{}"] * 6 + ["<b>{}</b>", "{}<sup>1</sup>", "<span>{}</span>", "<p>{}</p>", "{} " + inner, "{}<br/>b"]
    ).replace("{}", word)


def spoilt(html: str, rng: random.Random) -> str:
    """A table with a mistake or two."""
    for _ in range(rng.randrange(3)):
        old, new = rng.choice(
            [("td", "th"), ("</tr><tr>", ""), ("page", "pace"), ("2", "3"), ("</td>", ""), ("<b>", "")]
        )
        html = html.replace(old, new, rng.choice([1, -1]))
    return html


def official(checkout: Path) -> Any:
    """``process_get_matched_elements``, the two distances of a page, and TEDS of its tables, with and without what
    is in cells, by the code of its owners."""
    sys.path.insert(0, str(checkout))
    for name in ("evaluate", "matplotlib", "matplotlib.pyplot", "matplotlib.font_manager", "loguru", "tqdm"):
        sys.modules[name] = mock.MagicMock()
    untimed = types.SimpleNamespace(FunctionTimedOut=TimeoutError, func_timeout=lambda _, run, args: run(*args))
    sys.modules["func_timeout"] = untimed  # type: ignore[assignment]
    for name in ("dataset", "metrics"):  # whose own imports are of all that they have
        package = types.ModuleType(name)
        package.__path__ = [str(checkout / name)]
        sys.modules[name] = package
    os.chdir(checkout)
    import Levenshtein
    from dataset.end2end_dataset import End2EndDataset, LatexNodes2Text, clean_string, normalized_table
    from metrics.table_metric import TEDS

    matcher = End2EndDataset.__new__(End2EndDataset)
    matcher.match_method = "quick_match"

    def teds(item: dict[str, Any], structure: bool) -> float:  # as `call_TEDS` does
        pred, true = (item.get(f"norm_{side}") or item[side] for side in ("pred", "gt"))
        try:
            return float(TEDS(structure_only=structure).evaluate(pred, true))
        except Exception:
            return 0.0

    def score(annotated: dict[str, Any], answer: str) -> tuple[float | None, float | None, list[list[float]]]:
        with contextlib.redirect_stdout(io.StringIO()):
            found = matcher.process_get_matched_elements(copy.deepcopy(annotated), answer, "page.jpg", 0)
        texts, formulas, latex, tables, order = found
        tables = [*tables, *({**item, **{key: "" for key in item if "pred" in key}} for item in latex)]
        for item in tables:
            item["norm_pred"], item["norm_gt"] = normalized_table(item["pred"]), normalized_table(item["gt"])
        similar = [[teds(item, structure) for structure in (False, True)] for item in tables]
        texts = [*texts]
        for item in formulas:  # as `get_matched_elements` and `call_Edit_dist` do
            if item.get("pred_category_type") not in ("equation_inline", "equation_isolated", ""):
                item["gt"] = LatexNodes2Text().latex_to_text(item["gt"])
                item["norm_gt"] = clean_string(item["gt"])
                texts.append(item)
        pairs = [(item.get("norm_gt") or item["gt"], item.get("norm_pred") or item["pred"]) for item in texts]
        length = sum(max(len(true), len(read)) for true, read in pairs)
        errors = sum(Levenshtein.distance(true, read) for true, read in pairs)
        return (errors / length if length else None), (order["edit"] if order else None), similar

    return score


def main() -> None:
    out = Path(__file__).with_name("golden_pages.json")
    score = official(Path(sys.argv[1]).absolute())
    rows = []
    for make, seed, count in ((page, 15, 120), (tables_page, 16, 80)):
        rng = random.Random(seed)
        for _ in range(count):
            annotated, answer = make(rng)
            text_edit, order_edit, teds = score(annotated, answer)
            edits = {"text_edit": text_edit, "order_edit": order_edit}
            rows.append({"page": annotated, "answer": answer, **edits, "teds": teds})
    out.write_text("[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n", "utf-8")


if __name__ == "__main__":
    main()
