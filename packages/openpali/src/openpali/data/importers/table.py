"""CSV with a header: a column ``image``, and ``question`` and ``answer``, ``caption``, ``label`` or ``text``."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from openpali.data.importers.base import Found, ImageFinder, Imported, Request

KINDS: tuple[tuple[str, ...], ...] = (("question", "answer"), ("caption",), ("label",), ("text",))
"""Columns that make a sample; a row may have several kinds."""
EXTRA = ("lang", "question_kind")
FIELDS = {"answer": "answers"}
"""Column -> the field of a record, where the two differ."""


def read(request: Request, log: Imported) -> Iterator[Found]:
    """One sample per row. Cells may be separated by commas, semicolons or tabs, as the header is."""
    request.refuse_split("a CSV file")
    path = request.path
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: give a CSV file with a header")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            rows = csv.reader(file, delimiter=max(",;\t", key=header.count), strict=True)
            columns = [name.strip().lower() for name in next(rows, [])]
            kinds = _kinds(columns, request)
            used = ["image", *EXTRA, *(name for kind in kinds for name in kind)]
            if unused := [name for name in columns if name not in used]:
                log.notes.append(f"columns not used: {', '.join(map(repr, unused))}")
            finder = ImageFinder(request, [path.parent, path.parent / "images"])
            for cells in rows:
                where = f"{path.name}:{rows.line_num}"
                if any(cell.strip() for cell in cells):
                    yield from _row(columns, kinds, cells, where, finder, log)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error}): save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise ValueError(f"{path}:{rows.line_num} is not CSV: {error}") from error


def _kinds(columns: list[str], request: Request) -> list[tuple[str, ...]]:
    found = f"its columns are {', '.join(map(repr, columns)) or 'none'}"
    if "image" not in columns:
        raise ValueError(f"{request.path} needs a column 'image' with the path of the image; {found}")
    if twice := {name for name in columns if name and columns.count(name) > 1}:
        raise ValueError(f"{request.path} has the column {min(twice)!r} twice; {found}")
    kinds = [kind for kind in KINDS if set(kind) <= set(columns)]
    if not kinds:
        raise ValueError(
            f"{request.path} needs 'question' and 'answer', or one of the columns 'caption', 'label', 'text'; "
            f"{found}"
        )
    return kinds


def _row(
    columns: list[str],
    kinds: list[tuple[str, ...]],
    cells: list[str],
    where: str,
    finder: ImageFinder,
    log: Imported,
) -> Iterator[Found]:
    if len(cells) != len(columns):
        counted = f"{len(cells)} cells, but {len(columns)} columns"
        log.add("damaged entry", f"{where}: {counted}: quote cells that hold the separator")
        return
    texts = [cell.strip().replace("\r\n", "\n") for cell in cells]
    row = {name: text for name, text in zip(columns, texts, strict=True) if text}
    complete = [kind for kind in kinds if set(kind) <= set(row)]
    if "image" not in row:
        log.add("row without an image", where)
    elif not complete:
        log.add("row without a value", f"{where}: {' or '.join(' and '.join(kind) for kind in kinds)} is empty")
    elif opened := finder.find(row["image"], where, log):
        names = [name for kind in complete for name in kind] + [name for name in EXTRA if name in row]
        fields: dict[str, Any] = {FIELDS.get(name, name): row[name] for name in names}
        yield Found(opened[0], {"key": where, **fields})
