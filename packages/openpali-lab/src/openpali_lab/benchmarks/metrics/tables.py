"""Similarity of two tables by their trees: TEDS (arXiv 1911.10683).

As ``TEDS_metric.py`` and ``eval.py`` in ``OCRBench_v2/eval_scripts`` of Yuliang-Liu/MultimodalOCR compute it, and
``metrics/table_metric.py`` of opendatalab/OmniDocBench, quirks included. The official code takes the tree edit
distance from the package apted.
"""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from html import unescape
from typing import Any, NamedTuple

from openpali.messages import cannot_import
from openpali.metrics.edit import edit_distance
from openpali_lab.benchmarks.metrics.trees import Place, tree_distance

NO_LITERAL = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)
"""What ``ast.literal_eval`` raises for a text that is none."""
_FENCED = re.compile(r"```(?:python|json)?\n(.*?)\n```", re.DOTALL | re.IGNORECASE)
_ASSIGNED = re.compile(r"^\s*\w+\s*=\s*")
_COMMENT = re.compile(r"#.*")


class _Node(NamedTuple):
    """A node of a table: what is in a cell (``td``) counts, and how many columns and rows it spans."""

    tag: str
    columns: int | None = None
    rows: int | None = None
    content: tuple[str, ...] = ()


def html_similarity(answer: str, table: str) -> float:
    """TEDS of two tables in HTML; of the answer, from the first ``<body`` or else ``<table`` on. 0 without."""
    flat = answer.replace("\n", "")
    start = next((flat.index(tag) for tag in ("<body", "<table") if tag in flat), None)
    return 0.0 if start is None else table_similarity(_whole(flat[start:]), _whole(table))


def markdown_similarity(answer: str, table: str) -> float:
    """TEDS of two tables in Markdown."""
    return table_similarity(_from_markdown(answer), _from_markdown(table))


def chart_similarity(answer: str, chart: Mapping[str, Any]) -> float:
    """TEDS of two dictionaries as tables of two columns; 0 if the answer is none in Python."""
    said = _chart(answer)
    return table_similarity(said, _from_dictionary(chart)) if said else 0.0


def table_similarity(answer: str, table: str, *, structure: bool = False) -> float:
    """1 less the tree edit distance of two tables in whole HTML documents by the nodes of the larger.

    0 if one has no table below its body, or cannot be read. With ``structure``, what is in cells does not count.
    """
    etree, html = lxml()
    parser = html.HTMLParser(remove_comments=True, encoding="utf-8")
    try:
        roots = [html.fromstring(text, parser=parser) for text in (answer, table)]
        found = [root.xpath("body/table") for root in roots]
        if not all(found):
            return 0.0
        one: list[Place] = []
        other: list[Place] = []
        for (first, *_), places in zip(found, (one, other), strict=True):
            _list_places(first, places, structure)
    except (ValueError, etree.LxmlError):  # a span that is no number, or text that is no document
        return 0.0
    count = max(len(first.xpath(".//*")) for first, *_ in found)
    return 1 - tree_distance(one, other, cache(_change)) / count if count else 0.0


def require_parsers() -> None:
    """Check that what reads tables is installed.

    Raises:
        ValueError: it is not.
    """
    lxml()
    _beautiful_soup()


def _beautiful_soup() -> Any:
    try:
        from bs4 import BeautifulSoup
    except ImportError as error:
        raise ValueError(cannot_import("OmniDocBench's tables need bs4", "openpali-lab[eval]", error)) from error
    return BeautifulSoup


def lxml() -> tuple[Any, Any]:
    """The modules of lxml that read HTML.

    Raises:
        ValueError: it is not installed.
    """
    try:
        from lxml import etree, html
    except ImportError as error:
        raise ValueError(cannot_import("similarity of tables needs lxml", "openpali-lab[eval]", error)) from error
    return etree, html


def _list_places(element: Any, places: list[Place], structure: bool) -> None:
    """Append an element after those below it; what is in a cell is its content, or nothing of a ``structure``."""
    first = len(places)
    if element.tag == "td":
        columns, rows = (int(element.attrib.get(name, "1")) for name in ("colspan", "rowspan"))
        content = () if structure else tuple(_pieces(element)[1:-1])
        places.append(Place(_Node("td", columns, rows, content), first))
        return
    for child in element.getchildren():
        _list_places(child, places, structure)
    places.append(Place(_Node(element.tag), first))


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


def _change(one: _Node, other: _Node) -> float:
    if one[:3] != other[:3]:
        return 1.0
    longest = max(len(one.content), len(other.content))
    return edit_distance(one.content, other.content) / longest if longest else 0.0


def _whole(table: str) -> str:
    """A table with the tags of a document around it, where it has none (``wrap_html_table``)."""
    table = table.replace("\n", "")
    opened, closed = "<table" in table, "</table>" in table
    table = f"{'' if opened else '<table>'}{table}{'' if closed else '</table>'}"
    if "<body>" not in table:
        table = f"<body>{table}</body>"
    return table if "<html>" in table else f"<html>{table}</html>"


def normal_document(text: str) -> str:
    """Tables in HTML as a document of one table, as OmniDocBench compares them; "" if there is none.

    Cells of a head become cells, formulas their LaTeX, and tags and attributes of style go
    (``normalized_html_table``).
    """
    if "<table" not in text.replace(" ", "").replace("'", '"'):
        return ""
    soup = _beautiful_soup()(text, "html.parser")
    for cell in soup.find_all("th"):
        cell.name = "td"
    for formula in soup.find_all("math"):
        formula.replace_with(f"${formula.get('alttext', '')}$")
    for tag in soup.find_all(["thead", "span"]):
        tag.unwrap()
    flat = unicodedata.normalize("NFKC", unescape(str(soup)).replace("\n", "")).strip()
    inner = "".join(re.findall(r"<table\b[^>]*>(.*)</table>", flat, re.IGNORECASE))
    for name in ("style", "height", "width", "align", "class"):
        inner = re.sub(f' {name}=".*?"', "", inner)
    inner = re.sub(r"\s+", " ", re.sub("</?tbody>", "", inner))
    inner = re.sub("</?(?:sup|sub|span|div|p)>", "", inner).replace('<spandata-span-identity="">', "")
    inner = re.sub("<colgroup>.*?</colgroup>", "", inner)
    return f'<html><body><table border="1" >{inner}</table></body></html>'


def _document(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells in HTML; texts are not escaped."""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<html><body><table>{body}</table></body></html>".replace("\n", "")


def _from_markdown(table: str) -> str:
    """All lines but the second are rows; what is before the first and after the last | of each is dropped."""
    lines = (
        table.strip("`markdown").strip("`").strip().split("\n")
    )  # letters of the word, too, as the official code
    cells = ([*line.strip().split("|")[1:-1]] for line in [lines[0], *lines[2:]])
    return _document([[" " if set(cell) == {" "} else cell.strip() for cell in row] for row in cells])


def _from_dictionary(values: Mapping[str, Any]) -> str:
    """A row for each key, with spaces between the characters of its value."""
    rows = "".join(f"  <tr><td>{key}</td><td>{' '.join(str(value))}</td></tr>\n" for key, value in values.items())
    return f"<html><body><table>\n{rows}</table></body></html>"


def _chart(text: str) -> str:
    """The table of a dictionary in Python, in the longest block of code, or in the whole text; "" without one."""
    found = _FENCED.findall(text)
    content = _ASSIGNED.sub("", (max(found, key=len) if found else text).strip(), count=1)
    content = _COMMENT.sub("", content)
    end = content.rfind("}")
    try:
        value = ast.literal_eval(content[: end + 1] if end >= 0 else content)
        return _from_dictionary(value) if value and isinstance(value, dict) else ""
    except NO_LITERAL:  # also of a number with more digits than Python writes
        return ""
