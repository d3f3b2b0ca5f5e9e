"""Questions about what the forms and tables of real screens say, from the truth of their windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from openpali.data.sources.base import Source
from openpali.metrics.words import holds_centre
from openpali.tasks.example import Example, Object, Word, around

_FIELDS = ("textbox", "searchbox", "spinbutton", "combobox", "listbox")
_LONGEST = 40  # characters of a name
_ROWS = (1, -1, 1)  # the column that the first, second and third row are asked about
_GAP = 4  # heights of a row to the next, beyond which a table ends

Asked = tuple[str, str, str]
"""A question, its answer and its kind."""


def questions(windows: Source) -> list[Example]:
    """Each question about each window, with its image."""
    return [question for index in range(len(windows)) for question in questions_about(windows[index])]


def questions_about(example: Example) -> Iterator[Example]:
    """What each field holds that has a label on the screen, and cells of tables, by their row and column."""
    asked = [*_of_fields(example), *_of_tables(example)]
    counts = Counter(question for question, _, _ in asked)
    for number, (question, answer, kind) in enumerate(asked):
        if counts[question] == 1:
            key = f"{example.key}-{number}"
            yield replace(example, key=key, question=question, answers=(answer,), question_kind=kind)


def _of_fields(example: Example) -> Iterator[Asked]:
    for field in (thing for thing in example.objects if thing.role in _FIELDS):
        text = _text([word for line in example.lines for word in line.words if holds_centre(field.box, word.box)])
        labels = " ".join(line.text for line in example.lines if not holds_centre(field.box, line.box))
        name = field.name.strip(" *:")
        if text and text != name and 0 < len(name) <= _LONGEST and name in labels:
            yield f"What is the {name}?", text, "field"


def _of_tables(example: Example) -> Iterator[Asked]:
    """Cells of rows of one line that the first cell names."""
    headers = [thing for thing in example.objects if thing.role == "columnheader" and thing.name.strip()]
    for _, some in groupby(sorted(headers, key=lambda each: each.box[:2]), key=lambda each: each.box.ymin):
        first, *others = some
        rows = [row for row in _rows(example, [first, *others]) if any(map(str.isalpha, row[0]))]
        names = Counter(row[0] for row in rows)
        for row, column in zip(rows, _ROWS if others else (), strict=False):
            if row[column] and names[row[0]] == 1:
                yield f"What is the {[first, *others][column].name} of {row[0]}?", row[column], "cell"


def _rows(example: Example, columns: Sequence[Object]) -> Iterator[list[str]]:
    """The text of each cell, row by row."""
    table = around(column.box for column in columns)
    words = [word for line in example.lines for word in line.words]
    words = [word for word in words if holds_centre(table._replace(ymax=example.size.height), word.box)]
    end = table.ymax
    while below := [word for word in words if word.box.ymin >= end]:
        top = min((word.box for word in below), key=lambda box: box.ymin)
        height = top.height
        if top.ymin - end > _GAP * height:
            return
        row = [word for word in below if word.box.ymin < top.ymin + height / 2]
        end = max(word.box.ymax for word in row)
        band = around(word.box for word in row)
        yield [
            _text([w for w in row if holds_centre(band._replace(xmin=c.box.xmin, xmax=c.box.xmax), w.box)])
            for c in columns
        ]


def _text(words: Sequence[Word]) -> str:
    return " ".join(word.text for word in words)
