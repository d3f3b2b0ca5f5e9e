"""CSV with a header: a column ``image``, and ``question`` and ``answer``, ``caption``, ``label`` or ``text``."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path

from openpali.data.importers.base import Entry, Imported, Request, Unusable, read_text

KINDS: tuple[tuple[str, ...], ...] = (("question", "answer"), ("caption",), ("label",), ("text",))
"""Columns that make a sample; a row may have several kinds."""
EXTRA = ("lang", "question_kind")


def read(request: Request, log: Imported) -> Iterator[Entry]:
    """One sample per row. Cells may be separated by commas, semicolons or tabs, as the header is."""
    path = request.path
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: give a CSV file with a header")
    text = read_text(path)
    separator = max(",;\t", key=text.partition("\n")[0].count)
    rows = csv.reader(StringIO(text), delimiter=separator, strict=True)
    try:
        columns = [name.strip().lower() for name in next(rows, [])]
        kinds = _kinds(columns, path)
        used = ["image", *EXTRA, *(name for kind in kinds for name in kind)]
        if unused := [name for name in columns if name not in used]:
            log.notes.append(f"columns not used: {', '.join(map(repr, unused))}")
        for cells in rows:
            where = f"{path.name}:{rows.line_num}"
            if any(cell.strip() for cell in cells):
                with log.counting(where):
                    yield _entry(columns, kinds, cells, where, path.parent)
    except csv.Error as error:
        raise ValueError(f"{path}:{rows.line_num} is not CSV: {error}") from error


def _kinds(columns: Sequence[str], path: Path) -> list[tuple[str, ...]]:
    found = f"its columns are {', '.join(map(repr, columns)) or 'none'}"
    if "image" not in columns:
        raise ValueError(f"{path} needs a column 'image' with the path of the image; {found}")
    if twice := {name for name in columns if name and columns.count(name) > 1}:
        raise ValueError(f"{path} has the column {min(twice)!r} twice; {found}")
    kinds = [kind for kind in KINDS if set(kind) <= set(columns)]
    if not kinds:
        raise ValueError(
            f"{path} needs 'question' and 'answer', or one of the columns 'caption', 'label', 'text'; {found}"
        )
    return kinds


def _entry(
    columns: Sequence[str], kinds: Sequence[tuple[str, ...]], cells: Sequence[str], where: str, folder: Path
) -> Entry:
    if len(cells) != len(columns):
        counts = f"{len(cells)} cells, but {len(columns)} columns"
        raise ValueError(f"{counts}: quote cells that hold the separator")
    row = {name: text for name, cell in zip(columns, cells, strict=True) if (text := cell.strip())}
    complete = [kind for kind in kinds if set(kind) <= set(row)]
    if "image" not in row:
        raise Unusable("row without an image", "the cell is empty")
    if not complete:
        raise Unusable("row without a value", f"{' or '.join(' and '.join(kind) for kind in kinds)} is empty")
    fields = {name: row[name] for name in [*(name for kind in complete for name in kind), *EXTRA] if name in row}
    if "answer" in fields:
        fields["answers"] = fields.pop("answer")
    return Entry(where, row["image"], [folder, folder / "images"], {"key": where, **fields})
