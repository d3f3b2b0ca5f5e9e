"""Markdown documents of which code generates a part, between two marks: ``<!-- NAME: generated -->`` and
``<!-- end of NAME -->``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from openpali.eval.markdown import table_row


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table, line by line."""
    return [table_row(row) for row in (heads, ["---"] * len(heads), *rows)]


def option_cells(name: str, kind: str, default: str, meaning: str) -> tuple[str, str, str]:
    """The cells of an option or a key: type and default share one."""
    return name, "; ".join(filter(None, (kind, default))), meaning


def write_between(path: Path, name: str, text: str) -> None:
    """Replace what is between the marks of this name in a document."""
    begin, end = f"<!-- {name}: generated -->\n", f"<!-- end of {name} -->\n"
    document = path.read_text("utf-8")
    head, found, rest = document.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(
            f"{path} needs the lines {begin.strip()} and {end.strip()}, to write the tables between them"
        )
    path.write_text(f"{head}{begin}\n{text}\n{end}{tail}", "utf-8")
