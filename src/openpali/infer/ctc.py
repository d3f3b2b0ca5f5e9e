"""From the probabilities of characters in columns (CTC) to text.

Where the columns are not sure, a prefix beam search with a language model decides: without one, readers write
"NOTIFCATIONS", or a Cyrillic letter in an English word.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from openpali.text.language import SPACE, LanguageModel, extended

Scores = NDArray[np.float32]

# chosen on the pages of packages that nothing is learnt from or scored on
WEIGHT = 0.2  # of the language model's log-probabilities
BONUS = 0.3  # for each character, since a language model likes short texts
SURE = 0.9  # probability of the likeliest way to read a part of a line from which on it is taken
CUT = 0.99  # probability of a space from which on it ends such a part
BEAMS = 8
CHOICES = 6  # characters that are tried in a column
LEAST = 1e-3  # probability of a character that is tried
NOTHING = 0.998  # probability of "no new character" from which on nothing is tried


Text = tuple[int, ...]


class Letter(NamedTuple):
    """A character of a line.

    Attributes:
        number: in the reader's characters, from 1 on.
        column: where it begins.
        probability: the product of those of a word's letters is that of the word.
    """

    number: int
    column: int
    probability: float


def read_columns(scores: Scores, language: LanguageModel | None = None) -> list[Letter]:
    """The characters of a line.

    Args:
        scores: probabilities ``[T, 1 + C]`` of "no new character" and of each character in columns.
        language: decides with them where they are not sure; None: they decide alone.
    """
    if language is None:
        return greedy(scores)
    letters: list[Letter] = []
    context = SPACE
    for first, last in pairwise(_cuts(scores)):
        own = scores[first:last]
        part = greedy(own) if own.max(-1).prod() >= SURE else search(own, language, context)
        for letter in part:
            letters.append(letter._replace(column=first + letter.column))
            context = extended(context, letter.number)
    return letters


def greedy(scores: Scores) -> list[Letter]:
    """The likeliest character of each column, once where it is the same in several."""
    best = scores.argmax(-1)
    letters: list[Letter] = []
    for column, number in enumerate(best.tolist()):
        probability = float(scores[column, number])
        if number and (column == 0 or number != best[column - 1]):
            letters.append(Letter(number, column, probability))
        elif number:
            letters[-1] = letters[-1]._replace(probability=max(letters[-1].probability, probability))
    return letters


def _cuts(scores: Scores) -> list[int]:
    """Columns where parts of a line begin: with a space that is sure; and its end."""
    space = scores[:, SPACE] >= CUT
    begins = np.flatnonzero(space[1:] & ~space[:-1]) + 1
    return [0, *begins.tolist(), len(scores)]


class _Beam(NamedTuple):
    """A text that columns may say. Probabilities are logarithms.

    Attributes:
        closed: of all ways to read the columns as this text that end with "no new character".
        open: of those that end with its last character, which may go on.
        prior: what the language model adds.
        context: of the next character.
    """

    closed: float
    open: float
    prior: float
    context: int
    columns: tuple[int, ...]  # where its characters begin

    @property
    def seen(self) -> float:
        return _add(self.closed, self.open)

    @property
    def score(self) -> float:
        return self.seen + self.prior

    def joined(self, other: _Beam) -> _Beam:
        """Both, which are ways to one text."""
        columns = self.columns if self.seen >= other.seen else other.columns
        return self._replace(
            closed=_add(self.closed, other.closed), open=_add(self.open, other.open), columns=columns
        )


Beams = Mapping[Text, _Beam]


def search(scores: Scores, language: LanguageModel, context: int) -> list[Letter]:
    """What a part of a line says, by a prefix beam search (Hannun et al., arXiv 1408.2873).

    Args:
        scores: as for :func:`read_columns`.
        context: what is before the part, for the language model.
    """
    beams: Beams = {(): _Beam(0.0, -math.inf, 0.0, context, ())}
    for column, row in enumerate(scores):
        if row[0] >= NOTHING:
            beams = {text: beam._replace(closed=beam.seen, open=-math.inf) for text, beam in beams.items()}
        else:
            beams = _best(_step(beams, column, row, language))
    text = max(beams, key=lambda each: beams[each].score)
    columns = [*beams[text].columns, len(scores)]
    share = 1 / sum(math.exp(beam.score - beams[text].score) for beam in beams.values())
    letters = []
    for number, (first, last) in zip(text, pairwise(columns), strict=True):
        seen = float(scores[first : max(last, first + 1), number].max())
        letters.append(Letter(number, first, seen * share ** (1 / len(text))))
    return letters


def _step(beams: Beams, column: int, row: Scores, language: LanguageModel) -> dict[Text, _Beam]:
    """The texts after one more column, ``[1 + C]``."""
    likeliest = np.argsort(-row[1:])[:CHOICES] + 1
    tried = [(int(number), math.log(row[number])) for number in likeliest if row[number] >= LEAST]
    nothing = math.log(max(float(row[0]), 1e-9))
    after: dict[Text, _Beam] = {}

    def add(text: Text, beam: _Beam) -> None:
        after[text] = after[text].joined(beam) if text in after else beam

    for text, beam in beams.items():
        add(text, beam._replace(closed=beam.seen + nothing, open=-math.inf))
        for number, probability in tried:
            ways = beam.seen
            if text and number == text[-1]:
                add(text, beam._replace(closed=-math.inf, open=beam.open + probability))
                ways = beam.closed  # a letter comes twice only if something was between
            prior = beam.prior + WEIGHT * language.log_prob(beam.context, number) + BONUS
            context = extended(beam.context, number)
            add((*text, number), _Beam(-math.inf, ways + probability, prior, context, (*beam.columns, column)))
    return after


def _best(beams: Beams) -> dict[Text, _Beam]:
    return dict(sorted(beams.items(), key=lambda item: -item[1].score)[:BEAMS])


def _add(one: float, other: float) -> float:
    """The logarithm of the sum of two probabilities."""
    high, low = max(one, other), min(one, other)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))
