"""Answers to questions about what the forms and tables of a screen say, without a decoder.

A question names a field by its label, a cell by its row and column, or what stands beside its name:
"What is the city?", "What is the price of apples?", "How many buttons are there?".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from openpali_screen.elements.predict import confidence_of
from openpali_screen.expressions import ElementQuery, words_of
from openpali_screen.geometry import Box
from openpali_screen.pointing import ReadScreen, away, likeness, text_of
from openpali_screen.text import ReadLine, ReadWord

_ASKING = re.compile(r"(?i)^\W*(?:what|which|who|where|when|how (?:much|many))\b")
_COUNT = re.compile(  # matches words with one space between them
    r"how many (.*?)(?: (?:are|is)(?: (?:there|here|shown|visible))?)?"
    r"(?: (?:in total|altogether))?"
    r"(?: (?:on|in) (?:(?:this|the) )?(?:screen|page|image|picture|window|screenshot|dialog|form|app|view))?"
)
_FILLERS = {
    *("a", "an", "the", "of", "in", "on", "at", "for", "is", "are", "does", "do", "was", "has", "have"),
    *("value", "text", "say", "says", "written", "entered", "selected", "shown", "there"),
}
_SHORT = {
    **dict.fromkeys(("no", "nr"), "number"),
    **dict.fromkeys(("tel", "phone"), "telephone"),
    **dict(qty="quantity", addr="address", amt="amount", acct="account", ref="reference", dept="department"),
}
"""Abbreviations, as labels have them, and other words for the same."""
_FIELDS = ("textbox", "combobox", "listbox")
_LEAST = 0.6  # least likeness of a question to the names that it asks about
_LOOSE = 0.9  # how well a name fits beside which no field is
_PAIRED = 0.75  # a row has the values of the next if their gap is below this share of the gaps around
_NEAR, _FAR = 3.0, 15.0  # heights of a name within which its value stands below it, and at its right


class _Candidate(NamedTuple):
    """Words of a screen, and how alike their names are to a question, 0..1."""

    fit: float
    words: Sequence[ReadWord]


class Answer(NamedTuple):
    """What a screen says to a question, and the probability in 0..1 that it is right."""

    text: str
    confidence: float


def answer_about(screen: ReadScreen, question: str) -> Answer | None:
    """What a screen says to a question, with a confidence; None: it names nothing that is there."""
    if roles := counted_roles(question):
        found, doubtful = (
            [confidence_of(thing) for thing in things if thing.role in roles]
            for things in (screen.elements, screen.doubtful)
        )
        return Answer(str(len(found)), _probability_of_count([*found, *doubtful], len(found)))
    names = _names(_ASKING.sub("", question))
    candidates = [*_in_fields(screen, names), *_in_tables(screen, names), *_beside(screen, names)]
    best = max(candidates, key=lambda each: each.fit, default=None)
    if best is None or best.fit < _LEAST:
        return None
    confidence = min(best.fit, 1.0) * prod(word.confidence for word in best.words)
    return Answer(text_of(best.words), confidence)


def _probability_of_count(probabilities: Sequence[float], count: int) -> float:
    """Probability that exactly ``count`` of independent events happen (Poisson binomial)."""
    counts = np.array([1.0])
    for p in probabilities:
        counts = np.convolve(counts, (1 - p, p))
    return float(counts[count])


def counted_roles(question: str) -> Sequence[str]:
    """The roles whose elements a question counts, as "How many buttons are there?" does; else none."""
    counted = _COUNT.fullmatch(" ".join(words_of(question)))
    wanted = ElementQuery.of(counted[1]) if counted else None
    return wanted.roles if wanted and not (wanted.words or wanted.places or wanted.order is not None) else ()


def _names(text: str) -> list[str]:
    return [_SHORT.get(word, word) for word in words_of(text) if word not in _FILLERS]


def _in_fields(screen: ReadScreen, names: Sequence[str]) -> Iterator[_Candidate]:
    for field in screen.elements:
        if field.role in _FIELDS and (inside := screen.inside(field)):
            yield _Candidate(likeness(names, _names(text_of(screen.label(field)))), inside)


def _in_tables(screen: ReadScreen, names: Sequence[str]) -> Iterator[_Candidate]:
    """Cells, by the names of a row, at its left, and of a column, above it."""
    named = [(line, _names(line.text)) for line in screen.lines]
    known = [
        (line, own)
        for line, own in named
        if any(likeness(names, [word]) for word in own) and not set(own) >= set(names)  # a part of what is asked
    ]
    for row, own in known:
        cells = [line for line in screen.lines if line.box.xmin >= row.box.xmax and _in_row(row, line)]
        for column, above in known:
            if column.box.ymax > row.box.ymin:
                continue
            aligned = [(_misalignment(column.box, line.box), line) for line in cells]
            apart, cell = min(aligned, key=_first, default=(np.inf, row))
            if apart <= column.box.width:
                yield _Candidate(likeness(names, [*own, *above]), cell.words)


def _beside(screen: ReadScreen, names: Sequence[str]) -> Iterator[_Candidate]:
    """What stands in the row of a name, at its right, or below it."""
    for line in screen.lines:
        fit = likeness(names, _names(line.text))
        if fit < _LEAST:
            continue
        height = line.box.height
        right = [(other.box.xmin - line.box.xmax, other) for other in screen.lines if _in_row(line, other)]
        near = [(gap, other) for gap, other in right if 0 <= gap <= _FAR * height]
        gap, below = _next(screen, line, "below")
        if gap <= _NEAR * height:
            # A row of names over a row of values is nearer to it than to other rows; in a list all are equally far.
            apart = min(_next(screen, line, "above")[0], _next(screen, below, "below")[0])
            near.append((-1.0 if gap < _PAIRED * apart else np.inf, below))
        if near:
            yield _Candidate(_LOOSE * fit, min(near, key=_first)[1].words)


def _next(screen: ReadScreen, line: ReadLine, side: str) -> tuple[float, ReadLine]:
    """Pixels to the nearest line on a side, and that line."""
    others = ((away(line.box, other.box, side), other) for other in screen.lines if other is not line)
    return min(others, key=_first, default=(np.inf, line))


def _first(pair: tuple[float, ReadLine]) -> float:
    return pair[0]


def _in_row(row: ReadLine, line: ReadLine) -> bool:
    middle = (line.box.ymin + line.box.ymax) / 2
    return row.box.ymin <= middle < row.box.ymax


def _misalignment(one: Box, other: Box) -> float:
    """Pixels by which two boxes of a column are apart, at their left, their middle or their right."""
    left, right = one.xmin - other.xmin, one.xmax - other.xmax
    return min(abs(left), abs(right), abs(left + right) / 2)
