"""Markdown documents of which code generates a part, between two marks: ``<!-- NAME: generated -->`` and
``<!-- end of NAME -->``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]


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
