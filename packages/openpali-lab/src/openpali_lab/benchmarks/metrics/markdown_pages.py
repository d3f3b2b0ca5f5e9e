"""The pieces of a page in Markdown, as OmniDocBench 1.5 takes it apart (``utils/extract.py``).

Offsets are those of the official code, which counts characters of changed text: they order pieces, and no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser

TEXT, FORMULA, HTML, LATEX = "text_all", "equation_isolated", "html_table", "latex_table"
INLINE = "equation_inline"

_IMAGE = re.compile(r"!\[.*?\]\(.*?\)")
_FENCES = tuple(
    re.compile(each, re.M) for each in (r"^```markdown\n?", r"^```html\n?", r"^```latex\n?", r"```\n?$")
)
_LATEX_TABLE = re.compile(r"\\begin{table}.*?\\end{table}", re.S)
_DISPLAY = re.compile(r"\$\$.*?\$\$|\\\[.*?\\\]|\$.*?\$|\\\(.*?\\\)", re.S)
_DOLLARS = re.compile(r"\$\$(.*?)\$\$|\$(.*?)\$|\\\((.*?)\\\)", re.S)
_MARKDOWN_ROW = re.compile(r"\|\s*.*?\s*\|\n", re.S)
_HTML_TABLE = re.compile(r"<table.*?</table>", re.S)
_CODE = re.compile(r"```\w+\n(.*?)```", re.S)
_VOID = re.compile("area|base|br|col|embed|hr|img|input|link|meta|param|source|track|wbr")  # have no children
_STYLES = (
    re.compile(r"\\title\{(.*?)\}"),
    re.compile(r"\\title\s*\{\s*(.*?)\s*\}", re.S),
    re.compile(r"\\text\s*\{\s*(.*?)\s*\}", re.S),
    re.compile(r"\\section\*?\{(.*?)\}"),
    re.compile(r"\\section\*?\{\s*(.*?)\s*\}", re.S),
)


@dataclass(frozen=True)
class Piece:
    """A piece of a page.

    Attributes:
        category: :data:`TEXT`, :data:`FORMULA`, :data:`HTML` or :data:`LATEX`.
        at: its offset.
        kind: "equation_inline", "code", "text_block" or "md2html_table", if it is known.
    """

    category: str
    at: int
    content: str
    kind: str = ""


def pieces(page: str) -> list[Piece]:
    """The pieces, sorted by offset. A formula in a line of text is a piece, and in the text as well."""
    page = _IMAGE.sub("", page)
    for fence in _FENCES:
        page = fence.sub("", page)
    page = re.sub(r" {4,}", " " * 4, re.sub(r"_{4,}", "_" * 4, page))
    for tag in ("<html>", "</html>", "<body>", "</body>"):
        page = page.replace(tag, "")
    found: list[Piece] = []

    def take(spans: list[tuple[int, int]], category: str, kind: str = "") -> None:
        """Make spans pieces, and blank them in the page."""
        nonlocal page
        for start, end in spans:
            found.append(Piece(category, start, page[start:end], kind))
            page = _blanked(page, start, end)

    take([match.span() for match in _LATEX_TABLE.finditer(page)], LATEX)
    take(_outermost(page, r"\\begin{tabular}", r"\\end{tabular}"), LATEX)
    take(_outermost(page, r"<table(?:[^>]*)>", r"</table>"), HTML)
    for match in _DISPLAY.finditer(page):
        line = " ".join(match[0].strip().split("\n"))
        dollars = _DOLLARS.search(line)
        display = dollars is None or bool(dollars[1])
        line = _DOLLARS.sub(r"\\[\1\\]" if display else r"\\[\2\3\\]", line)
        found.append(Piece(FORMULA, match.start(), line, "" if display else INLINE))
        if display:
            page = _blanked(page, *match.span())
    if len(_MARKDOWN_ROW.findall(page + "\n")) > 1:
        page = _with_html_tables(page)
        take([match.span() for match in _HTML_TABLE.finditer(page)], HTML, "md2html_table")
    for match in _CODE.finditer(page):
        found.append(Piece(TEXT, match.start(), match[1].strip(), "code"))
        page = _blanked(page, *match.span())
    for style in _STYLES:
        page = style.sub(r"\1", page)
    return sorted([*found, *_blocks(page)], key=lambda piece: piece.at)


def _blanked(page: str, start: int, end: int) -> str:
    return page[:start] + " " * (min(end, len(page)) - start) + page[end:]


def _outermost(page: str, begin: str, end: str) -> list[tuple[int, int]]:
    """Spans of environments that are in no other; each reaches as far as the *pattern* of its end is long."""
    starts, ends = re.compile(begin), re.compile(end)
    spans: list[tuple[int, int]] = []
    opened: list[int] = []
    at = 0
    while at < len(page):
        first, last = starts.search(page, at), ends.search(page, at)
        if first and (not last or first.start() < last.start()):
            opened.append(first.start())
            at = first.start() + len(end)
        elif last:
            at = last.start() + len(end)
            if opened:
                start = opened.pop()
                spans += [] if opened else [(start, at)]
        else:
            break
    if opened:
        rest = opened[0] + len(begin)
        spans += [(rest + a, rest + b) for a, b in _outermost(page[rest:], begin, end)]
    return spans


def _blocks(page: str) -> Iterator[Piece]:
    """What is left: blocks between empty lines, or the lines of a page that has none."""
    blocks = page.split("\n\n")
    at = 0
    for block in blocks if len(blocks) > 1 else page.split("\n"):
        text = "\n".join(line.strip() for line in block.split("\n") if line.strip())
        if text.startswith("<table") and text.endswith("</table>"):
            yield Piece(HTML, at, text)
        elif text.startswith("$") and text.endswith("$"):
            if text.replace("$", "").strip():
                yield Piece(FORMULA, at, text)
        elif text:
            yield Piece(TEXT, at, text, "text_block")
        at += len(block)


def _with_html_tables(page: str) -> str:
    """The page with its Markdown tables in HTML; the official code takes each row as a table, and joins these."""
    page = page.replace("\r", "") + "\n"
    for row in _MARKDOWN_ROW.findall(page):
        page = page.replace(row, _table_of(row), 1)
    page = _joined_tables(page)
    return page.replace("<table>", '<table border="1" >').replace("<td>", '<td colspan="1" rowspan="1">')


def _table_of(rows: str) -> str:
    head, *rest = ([cell.strip() for cell in row.strip().split("|")[1:-1]] for row in rows.strip().split("\n"))
    body = "".join(_row(cells, "td") for cells in rest[1:])
    return f"<table>\n  <thead>\n{_row(head, 'th')}  </thead>\n  <tbody>\n{body}  </tbody>\n</table>\n"


def _row(cells: list[str], tag: str) -> str:
    return "    <tr>\n" + "".join(f"      <{tag}>{cell}</{tag}>\n" for cell in cells) + "    </tr>\n"


def _joined_tables(page: str) -> str:
    out: list[str] = []
    inside, table, last = False, "", ""
    for line in page.split("\n"):
        if "<table>" in line:
            inside = True
            table += last
        elif inside:
            if ":" not in last and "---" not in last and "</thead>" not in last:
                table += f"\n{last}"
            if "</table>" in last:
                inside = False
                out.append(_one_table(table))
                table = ""
        else:
            out.append(last)
        last = line
    if last and (inside or "</table>" in last):
        out.append(_one_table(f"{table}\n{last}"))
    elif last:
        out.append(last)
    return "\n".join(out)


def _one_table(tables: str) -> str:
    rows: list[str] = []
    for table in re.findall(r"<table>[\s\S]*?</table>", re.sub(r"<!--[\s\S]*?-->", "", tables)):
        lines = [
            line.replace("<th>", "<td>").replace("</th>", "</td>") if "<th>" in line else line
            for line in table.split("\n")
        ]
        kept = [line for line in lines if not re.search(r"</?t(able|head|body)>", line)]
        rows += kept if len(kept) > 2 else []
    return "\n\n<table>\n" + "\n".join(rows) + "\n</table>\n\n"


def cells(table: Piece) -> list[Piece]:
    """The texts of the cells of an HTML table; those of cells with more than one child are left out."""
    reader = _Cells()
    reader.feed(table.content)
    reader.close()
    texts = [re.sub(r"\$\\cdot\$", "", text).strip() for text in reader.texts()]
    return [replace(table, category=TEXT, content=text) for text in texts]


class _Node(list["_Node | str"]):
    """An element with its children."""

    def __init__(self, tag: str) -> None:
        super().__init__()
        self.tag = tag

    def text(self) -> str:
        """The only text within it, at any depth; empty if there is anything else."""
        if len(self) != 1:
            return ""
        [child] = self
        return child if isinstance(child, str) else child.text()


class _Cells(HTMLParser):
    """The cells of a table, in the order in which they begin."""

    def __init__(self) -> None:
        super().__init__()
        self.open = [_Node("")]
        self.cells: list[_Node] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = _Node(tag)
        self.open[-1].append(node)
        if tag == "td":
            self.cells.append(node)
        if not _VOID.fullmatch(tag):
            self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        for i in range(len(self.open) - 1, 0, -1):
            if self.open[i].tag == tag:
                del self.open[i:]
                return

    def handle_data(self, data: str) -> None:
        node = self.open[-1]
        if node and isinstance(node[-1], str):
            node[-1] += data
        else:
            node.append(data)

    def handle_comment(self, data: str) -> None:
        self.open[-1].append(_Node(""))

    def texts(self) -> list[str]:
        """Of the cells that have a single text."""
        return [text for text in (cell.text() for cell in self.cells) if text]
