"""Similarity of two tables in HTML by their trees: TEDS (arXiv 1911.10683).

As ``TEDS_metric.py`` in ``OCRBench_v2/eval_scripts`` of Yuliang-Liu/MultimodalOCR computes it, and
``metrics/table_metric.py`` of opendatalab/OmniDocBench. The official code takes the tree edit distance from the
package apted, which has had no release since 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any, NamedTuple

from openpali.messages import cannot_import
from openpali.metrics.edit import edit_distance


class _Label(NamedTuple):
    """What a node of a table is; of a cell (``td``), its content counts, and how many columns and rows it spans."""

    tag: str
    columns: int | None = None
    rows: int | None = None
    content: tuple[str, ...] = ()


class _Node(NamedTuple):
    """A node of a tree, which is a list of its nodes, children first.

    ``first`` is the place of the first node below this one, or of itself.
    """

    label: _Label
    first: int


def html_similarity(answer: str, table: str, *, structure: bool = False) -> float:
    """TEDS of two tables in HTML, 0..1; of the answer, from the first ``<body`` or else ``<table`` on.

    1 less the tree edit distance by the number of nodes of the larger. 0 if one has no table, or cannot be read.
    With ``structure``, what is in cells does not count.

    Raises:
        ValueError: lxml is not installed.
    """
    try:
        from lxml import etree, html
    except ImportError as error:
        raise ValueError(cannot_import("similarity of tables needs lxml", "openpali-lab[eval]", error)) from error
    start = next((answer.index(tag) for tag in ("<body", "<table") if tag in answer), len(answer))
    parser = html.HTMLParser(remove_comments=True, encoding="utf-8")
    try:
        roots = [html.fromstring(_document(text), parser=parser) for text in (answer[start:], table)]
        found = [root.xpath("body/table") for root in roots]
        if start == len(answer) or not all(found):
            return 0.0
        one, other = (_nodes(first, 0, structure) for first, *_ in found)
    except (ValueError, etree.LxmlError):  # a span that is no number, or text that is no document
        return 0.0
    count = max(len(first.xpath(".//*")) for first, *_ in found)
    return 1 - _distance(one, other) / count if count else 0.0


def _document(table: str) -> str:
    """A table with the tags of a document around it, where it has none (``wrap_html_table``)."""
    table = table.replace("\n", "")
    opened, closed = "<table" in table, "</table>" in table
    table = f"{'' if opened else '<table>'}{table}{'' if closed else '</table>'}"
    if "<body>" not in table:
        table = f"<body>{table}</body>"
    return table if "<html>" in table else f"<html>{table}</html>"


def _nodes(element: Any, first: int, structure: bool) -> list[_Node]:
    """The nodes of an element whose first is at place ``first``."""
    if element.tag == "td":
        columns, rows = (int(element.attrib.get(name, "1")) for name in ("colspan", "rowspan"))
        content = () if structure else tuple(_pieces(element)[1:-1])
        return [_Node(_Label("td", columns, rows, content), first)]
    nodes: list[_Node] = []
    for child in element.getchildren():
        nodes += _nodes(child, first + len(nodes), structure)
    return [*nodes, _Node(_Label(element.tag), first)]


def _pieces(element: Any) -> list[str]:
    """Tags and characters of an element."""
    found = [f"<{element.tag}>", *(element.text or "")]
    for child in element.getchildren():
        found += _pieces(child)
    if element.tag != "unk":
        found.append(f"</{element.tag}>")
    if element.tag != "td":
        found += element.tail or ""
    return found


def _change(one: _Label, other: _Label) -> float:
    """Cost of one label in the place of another; a node that is inserted or removed costs 1."""
    if one[:3] != other[:3]:
        return 1.0
    longest = max(len(one.content), len(other.content))
    return edit_distance(one.content, other.content) / longest if longest else 0.0


def _distance(one: Sequence[_Node], other: Sequence[_Node]) -> float:
    """The least cost of making a tree the other (Zhang and Shasha, SIAM Journal on Computing 18, 1989)."""
    trees = [[0.0] * len(other) for _ in one]
    change = cache(_change)  # many cells of a table are equal
    for i, j in product(_key_roots(one), _key_roots(other)):
        top, left = one[i].first, other[j].first
        # To begin with, each is compared with nothing; only the first row and column count.
        forests: list[list[float]] = [[*range(x, x + j - left + 2)] for x in range(i - top + 2)]
        for x in range(top, i + 1):
            for y in range(left, j + 1):
                above, before = one[x].first - top, other[y].first - left
                whole = not above and not before
                if whole:
                    changed = forests[x - top][y - left] + change(one[x].label, other[y].label)
                else:
                    changed = forests[above][before] + trees[x][y]
                removed, inserted = forests[x - top][y - left + 1] + 1, forests[x - top + 1][y - left] + 1
                forests[x - top + 1][y - left + 1] = least = min(changed, removed, inserted)
                if whole:
                    trees[x][y] = least
    return trees[-1][-1]


def _key_roots(tree: Sequence[_Node]) -> list[int]:
    """The last of the nodes with the same first one below."""
    return sorted({node.first: i for i, node in enumerate(tree)}.values())
