"""OmniDocBench 1.5: edit distance of text and of reading order of a page in Markdown, and TEDS of its tables.

As ``dataset/end2end_dataset.py``, ``utils/match_quick.py``, ``utils/data_preprocess.py``, and ``Edit_dist`` and
``TEDS`` in ``metrics/cal_metric.py`` of opendatalab/OmniDocBench compute them with ``match_method: quick_match``,
quirks included, since published numbers depend on them. One step is left out: the official script gives up on a
page after 30 seconds and then matches one to one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from openpali.messages import cannot_import
from openpali.metrics.edit import edit_distance
from openpali.metrics.scores import Scores, check_paired, macro_values, mean
from openpali_lab.benchmarks.metrics.markdown_pages import FORMULA, HTML, INLINE, LATEX, Piece, cells, pieces
from openpali_lab.benchmarks.metrics.tables import normal_document, table_similarity

SCORED = ("text_block", "title", "code_txt", "code_txt_caption", "reference")
IGNORED = (
    *("equation_caption", "figure_caption", "figure_footnote", "table_caption", "table_footnote", "code_algorithm"),
    *("code_algorithm_caption", "header", "footer", "page_footnote", "page_number"),
)

_INLINE_FORMULA = re.compile(r"\$(.*?)\$|\\\((.*?)\\\)")
_ARRAY = re.compile(r"\\begin\{array\}\{([^}]*)\}(.*?)\\end\{array\}", re.S)
_COMMANDS = (
    r"\mathbf \mathrm \mathnormal \mathit \mathbb \mathcal \mathscr \mathfrak \mathsf \mathtt \textbf \text "
    r"\boldmath \boldsymbol \operatorname \bm \symbfit \mathbfcal \symbf \scriptscriptstyle \notag \setlength "
    r"\coloneqq \space \thickspace \thinspace \medspace \nobreakspace \negmedspace \quad \qquad \enspace \substackw"
)
_REMOVED = (*_COMMANDS.split(), " ", "$$", r"\left", r"\right", r"\displaystyle", r"\text")

Floats = NDArray[np.float64]
_Table: TypeAlias = tuple[Piece, int | None]
"""A table that was found, and which annotated table it is; None: it is none."""


@dataclass(frozen=True)
class Element:
    """An annotated element of a page: its category, its place in the reading order (0: none), text or LaTeX."""

    category: str
    order: float
    content: str


@dataclass(frozen=True)
class TruePage:
    """What a page holds: elements but tables, in reading order, and tables in HTML."""

    elements: Sequence[Element]
    tables: Sequence[str]


@dataclass(frozen=True)
class _Pair:
    """Annotated elements and the pieces that they were matched with, if any."""

    category: str
    orders: tuple[float, ...]
    true: str
    normal_true: str
    normal_found: str
    kind: str  # of the first piece; empty without one
    at: int | None  # its offset


def omnidocbench(pages: Sequence[str], truth: Sequence[TruePage]) -> Scores:
    """Edit distances of text and of reading order, each 0..1, lower is better; TEDS of tables, higher is better.

    Args:
        pages: the answer for each page, in Markdown.
        truth: what each page holds.

    Returns:
        ``text_edit``: distances of a page's texts by the sum of the longer lengths, mean over pages with text;
        ``order_edit``: distance of the orders of its texts by the longer length, mean over pages that have such
        orders; ``table_teds`` and ``table_teds_structure``: similarity of tables, with and without what is in their
        cells, mean over the tables of all pages. A page that is left out has the per-sample value 0; the others are
        scaled, so that means agree. A score that no page has is missing.

    Raises:
        ValueError: no page has any of these.
    """
    check_paired(pages, truth, "annotated pages")
    columns: dict[str, list[tuple[int, float]]] = {}  # page and value of each score
    for number, (page, true) in enumerate(zip(pages, truth, strict=True)):
        found = pieces(page)
        html = _matched_tables(found, true.tables)
        for name, value in zip(("text_edit", "order_edit"), _edits(found, html, true), strict=True):
            if value is not None:
                columns.setdefault(name, []).append((number, value))
        for one, other in _table_pairs(html, true.tables):
            columns.setdefault("table_teds", []).append((number, table_similarity(one, other)))
            bare = table_similarity(one, other, structure=True)
            columns.setdefault("table_teds_structure", []).append((number, bare))
    if not columns:
        raise ValueError("no page has text or a table to compare with: OmniDocBench's scores need one")
    scores = Scores({}, {})
    for name, known in columns.items():
        values = [value for _, value in known]
        scores.summary[name] = mean(values)
        scores.per_sample[name] = macro_values(len(pages), [([number for number, _ in known], values)])
    return scores


def _matched_tables(found: Sequence[Piece], tables: Sequence[str]) -> list[_Table]:
    """The tables that were found on a page, and which annotated table each is; none if most are in LaTeX."""
    html, latex = ([piece for piece in found if piece.category == kind] for kind in (HTML, LATEX))
    if not tables or len(latex) > len(html):
        return []
    true = {j: i for i, j in _assigned(_ratios(tables, [piece.content for piece in html]))}
    return [(piece, true.get(j)) for j, piece in enumerate(html)]


def _table_pairs(found: Sequence[_Table], tables: Sequence[str]) -> list[tuple[str, str]]:
    """What was found of each annotated table of a page, and the table, as documents."""
    read = {i: piece.content for piece, i in found if i is not None}
    return [(normal_document(read.get(i, "")), normal_document(table)) for i, table in enumerate(tables)]


def _edits(found: Sequence[Piece], tables: Sequence[_Table], truth: TruePage) -> tuple[float | None, float | None]:
    """Text and reading order of a page; None without text."""
    pairs = _matched(truth.elements, _comparable(found, tables))
    texts = [pair for pair in pairs if pair.category in SCORED]
    orders = _order_edit(texts) if texts else None
    for pair in pairs:  # formulas that were written as text
        if pair.category == FORMULA and pair.kind not in (INLINE, FORMULA, ""):
            plain = str(_latex().latex_to_text(pair.true))
            texts.append(replace(pair, normal_true=clean(plain) or plain))
    length = sum(max(len(pair.normal_true), len(pair.normal_found)) for pair in texts)
    errors = sum(edit_distance(pair.normal_true, pair.normal_found) for pair in texts)
    return (errors / length if length else None), orders


def _order_edit(texts: Sequence[_Pair]) -> float | None:
    """Of the annotated orders, sorted, and those of what was found, in the order in which it was found."""
    found = [(pair.at, pair.orders) for pair in texts if pair.at is not None]
    true = sorted(filter(None, chain.from_iterable(pair.orders for pair in texts)))
    read = [*filter(None, chain.from_iterable(orders for _, orders in sorted(found, key=lambda one: one[0])))]
    return edit_distance(true, read) / max(len(true), len(read)) if true else None


def _comparable(found: Sequence[Piece], tables: Sequence[_Table]) -> list[Piece]:
    """Texts and formulas by category, then the cells of tables that no annotated table was matched with.

    Tables count for nothing on a page without annotated tables, and those in LaTeX have no cells.
    """
    categories = dict.fromkeys(piece.category for piece in found if piece.category not in (HTML, LATEX))
    mixed = [piece for name in categories for piece in found if piece.category == name]
    return [*mixed, *chain.from_iterable(cells(piece) for piece, true in tables if true is None)]


# ---- texts as they are compared


def clean(text: str) -> str:
    """Letters, digits and underscores of any script."""
    for blank in ("\\t", "\\n", "\t", "\n", "/t", "/n"):
        text = text.replace(blank, "")
    return re.sub(r"[^\w\u4e00-\u9fff]", "", text)


def normal_text(text: str) -> str:
    """A text without inline LaTeX, cleaned (``clean_string(textblock2unicode(...))``)."""
    for match in reversed([*_INLINE_FORMULA.finditer(text)]):
        formula = re.sub(r"\\([\\_&%^])", "", match[2] if match[1] is None else match[1])
        if any(mark in formula for mark in r"\^_"):
            parser = _latex()
            try:
                plain = str(parser.latex_to_text(formula + " " * formula.endswith("\\")))
            except Exception:  # whatever the parser does not understand stays as it is
                continue
            text = text[: match.start()] + plain.strip() + text[match.end() :]
    return clean(text)


def normal_formula(text: str) -> str:
    """A formula without fonts, spaces and environments, in lower case (``normalized_formula``)."""
    text = text.strip().strip("$").strip("\n")
    if display := re.search(r"\\\[(.+?)(?<!\\)\\\]", text):
        text = display[1].strip()
    for pattern in (r"\\tag\{.*?\}", r"\\hspace\{.*?\}", r"\\begin\{.*?\}", r"\\end\{.*?\}", r"\\arraycolsep.*?\}"):
        text = re.sub(pattern, "", text)
    text = text.strip(".")
    for command in _REMOVED:
        text = text.replace(command, "")
    return text.lower()


@cache
def _latex() -> Any:
    """What writes LaTeX in Unicode."""
    try:
        from pylatexenc.latex2text import LatexNodes2Text
    except ImportError as error:
        raise ValueError(
            cannot_import("OmniDocBench's rule needs pylatexenc", "openpali-lab[eval]", error)
        ) from error
    return LatexNodes2Text()


# ---- matching


def _matched(elements: Sequence[Element], found: Sequence[Piece]) -> list[_Pair]:
    """The annotated elements of a page with what was found of them; captions, headers and such may be missing."""
    elements = [line for element in elements for line in _formulas(element)]
    found = sorted(found, key=lambda piece: (piece.kind == INLINE, piece.at))
    found = [line for piece in found for line in _formulas_found(piece)]
    normal = ((e, normal_formula(e.content) if e.category == FORMULA else normal_text(e.content)) for e in elements)
    true = [(element, text) for element, text in normal if element.content and text]
    read = [text for piece in found if (text := _normal(piece))]

    def pair(some: Sequence[int], own: Sequence[int]) -> _Pair:
        # As in the official code, places are those of the lists before empty texts were left out.
        first = found[own[0]] if own else None
        category = Counter(true[i][0].category for i in some).most_common(1)[0][0]
        contents = [true[i][0].content for i in some]
        return _Pair(
            category,
            tuple(elements[i].order for i in some),
            _array(contents) if category == FORMULA and len(some) > 1 else "".join(contents),
            "".join(true[i][1] for i in some),
            "".join(read[i] for i in own),
            (first.kind or first.category) if first else "",
            first.at if first else None,
        )

    if not true or not read or (len(true) == len(read) == 1):
        return [pair([i], [0] if read else []) for i in range(len(true))]
    ignored = [text for element, text in true if element.category in IGNORED]
    near = {int(j) for _, j in np.argwhere(_ratios(ignored, read) < 0.25)}
    rows = [i for i, (element, _) in enumerate(true) if element.category not in IGNORED]
    columns = [i for i in range(len(read)) if i not in near]
    matches = _quick_match([true[i][1] for i in rows], [read[i] for i in columns])
    return [pair([rows[i] for i in some], [columns[i] for i in own]) for some, own in matches]


def _normal(piece: Piece) -> str:
    return normal_formula(piece.content) if piece.category == FORMULA else normal_text(piece.content)


def _formulas(element: Element) -> list[Element]:
    """The rows of an array of one column, with orders in tenths; else the element."""
    rows = _rows(element.content) if element.category == FORMULA else None
    if rows is None:
        return [element]
    return [
        replace(element, content=f"\\[{row}\\]", order=round(element.order + i / 10, 1))
        for i, (row, _) in enumerate(rows, 1)
    ]


def _formulas_found(piece: Piece) -> list[Piece]:
    rows = _rows(piece.content) if piece.category == FORMULA else None
    if rows is None:
        return [piece]
    return [replace(piece, content=f"\\[{row}\\]", at=piece.at + start) for row, start in rows]


def _rows(formula: str) -> list[tuple[str, int]] | None:
    """The rows of its first array, and where they begin; None if there is no array of one column."""
    array = _ARRAY.search(formula)
    if not array or re.sub(r"\s+|\||[@!]\{[^}]*\}", "", array[1]) not in ("l", "c", "r"):
        return None
    rows, at = [], 0
    for row in filter(None, (line.strip() for line in array[2].split(r"\\"))):
        start = array[2].find(row, at)
        at = start + len(row)
        rows.append((row, array.start(2) + start))
    return rows


def _array(formulas: Sequence[str]) -> str:
    rows = " \\\\ ".join("{" + formula.strip("$").strip("\n") + "}" for formula in formulas)
    return f"\\begin{{array}}{{l}} {rows} \\end{{array}}"


def _quick_match(true: Sequence[str], read: Sequence[str]) -> list[tuple[list[int], list[int]]]:
    """Groups of true texts with what was read of them, as indices; each true text is in one group.

    Texts that were read in parts are joined, then paired to the least sum of distances. A true text without a
    match is looked for within each text that was read, and else paired with what is left.
    """
    units = _units(true, read)
    costs = _ratios(true, [" ".join(read[i] for i in unit) for unit in units])
    assigned = {i: (tuple(units[j]), costs[i, j]) for i, j in _assigned(costs)}
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, (unit, cost) in assigned.items():
        if not cost > 0.7:
            groups.setdefault(unit, []).append(i)
    lost = [i for i in range(len(true)) if i not in assigned or assigned[i][1] > 0.7]
    for j, text in enumerate(read):
        within = [i for i in lost if _has_window(text, true[i], lambda ratio: ratio < 0.4)]
        if within:
            fresh = set(within).difference(*groups.values())
            groups.setdefault((j,), []).extend(fresh)
    left = [*set(range(len(true))).difference(*groups.values())]
    right = [*set(range(len(read))).difference(*groups)]
    if left and right:
        spare = _ratios([true[i] for i in left], [read[j] for j in right])
        for i, j in _assigned(spare):
            groups[right[j],] = [left[i]]
    found = [(sorted(some), [*unit]) for unit, some in groups.items() if some]
    known = {*chain.from_iterable(some for some, _ in found)}
    return found + [([i], []) for i in range(len(true)) if i not in known]


def _assigned(costs: Floats) -> list[tuple[int, int]]:
    """Rows and columns of ``costs``, paired to the least sum."""
    from scipy.optimize import linear_sum_assignment  # takes half a second to import

    rows, columns = linear_sum_assignment(costs)
    return [*zip(rows.tolist(), columns.tolist(), strict=True)]


def _units(true: Sequence[str], read: Sequence[str]) -> list[list[int]]:
    """Indices of texts that were read, consecutive ones joined where they are parts of one true text."""
    near = np.argwhere(_ratios(true, read) < 0.25)
    done, known = ({int(pair[side]) for pair in near} for side in (0, 1))
    best = []
    for text in (text for i, text in enumerate(true) if i not in done):
        runs = [_run(text, read, j, known) for j in range(len(read)) if j not in known]
        costs = [_ratio(text, " ".join(read[j] for j in run)) for run in runs]
        if runs:
            cost = min(costs)
            best.append((runs[costs.index(cost)], cost))
    first = {run[0]: run for run in _disjoint(best)}
    covered = {j for run in first.values() for j in run}
    return [first.get(j, [j]) for j in range(len(read)) if j in first or j not in covered]


def _run(true: str, read: Sequence[str], start: int, known: Set[int]) -> list[int]:
    """Texts from ``start`` on that are, joined, a better match than fewer of them."""
    end = start + 1
    while end < len(read) and end not in known:
        parts = read[start : end + 1]
        before, whole = " ".join(parts[:-1]), " ".join(parts)
        if (
            _ratio(true, whole) > _ratio(true, before)
            or not all(_has_window(true, part, lambda ratio: ratio <= 0.6) for part in parts[:-1])
            or not _has_window(true, parts[-1], lambda ratio: ratio < 0.6)
        ):
            break
        end += 1
        if len(whole) > len(true):
            break
    return [*range(start, end)]


def _disjoint(runs: Sequence[tuple[list[int], float]]) -> list[list[int]]:
    """Of runs that overlap, the set of disjoint ones with the least mean cost."""
    groups: list[list[tuple[list[int], float]]] = []
    for run in sorted(runs, key=lambda run: run[0][0]):
        if groups and any({*run[0]} & {*other} for other, _ in groups[-1]):
            groups[-1].append(run)
        else:
            groups.append([run])
    chosen: list[list[int]] = []
    for group in groups:
        paths: list[list[tuple[list[int], float]]] = []
        for run in group:
            known = False
            for path in paths:
                same = next((other for other in path if other[0] == run[0]), None)
                if same:
                    known = True
                    if same[1] > run[1]:
                        path.remove(same)
                        path.append(run)
                elif not any({*run[0]} & {*other} for other, _ in path):
                    known = True
                    path.append(run)
            if not known:
                paths.append([run])
        chosen += [run for run, _ in min(paths, key=lambda path: sum(cost for _, cost in path) / len(path))]
    return chosen


def _has_window(text: str, part: str, near: Callable[[float], bool]) -> bool:
    """Whether a stretch of ``text`` that is as long as ``part`` is near it, by distance over length."""
    length = len(part)
    if not 0 < length <= len(text):
        return False
    missing = Counter(part)  # letters of the part that the stretch lacks; negative if it has more of them
    missing.subtract(text[:length])
    lacks = sum(count for count in missing.values() if count > 0)  # the distance is no less
    for start in range(len(text) - length + 1):
        if start:
            old, new = text[start - 1], text[start + length - 1]
            missing[old] += 1
            lacks += missing[old] > 0
            lacks -= missing[new] > 0
            missing[new] -= 1
        if near(lacks / length) and near(edit_distance(text[start : start + length], part) / length):
            return True
    return False


def _ratio(one: str, other: str) -> float:
    longer = max(len(one), len(other))
    return edit_distance(one, other) / longer if longer else 0.0


def _ratios(some: Sequence[str], others: Sequence[str]) -> Floats:
    """Distances over the longer length, [some, others]."""
    return np.array([[_ratio(one, other) for other in others] for one in some], np.float64).reshape(
        len(some), len(others)
    )
