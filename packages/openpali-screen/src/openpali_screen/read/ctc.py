"""From the probabilities of characters in columns (CTC) to text.

Where the columns are not sure, a prefix beam search with a language model decides: without one, readers write
"NOTIFCATIONS", or a Cyrillic letter in an English word.
"""

from __future__ import annotations

import math
from itertools import pairwise
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from openpali_screen.language import SPACE, LanguageModel, extended

Scores = NDArray[np.float32]

# chosen on the pages of packages that nothing is learnt from or scored on
WEIGHT = 0.2  # of the language model's log-probabilities
BONUS = 0.3  # for each character, since a language model likes short texts
SURE = 0.6  # a part of a line is read in its most probable way, without a search, if that has this probability
CUT = 0.99  # a space of this probability ends such a part
BEAMS = 8
FAR = 1e-3  # share of the score of the best text below which others are given up
CHOICES = 6  # characters that are tried in a column
LEAST = 5e-3  # probability of a character that is tried
_FAINT = 1e-100  # where the best probability is less, all are divided by it, so that none becomes 0
BLANK = 0.998  # no character is tried in a column whose blank has this probability

Text = tuple[int, ...]


class Letter(NamedTuple):
    """A character of a line.

    Attributes:
        number: in the reader's characters, from 1 on.
        column: where it begins.
        probability: that of a word is the product of its letters'.
    """

    number: int
    column: int
    probability: float


def read_columns(scores: Scores, language: LanguageModel | None = None) -> list[Letter]:
    """The characters of a line.

    Args:
        scores: probabilities ``[T, 1 + C]`` of CTC's blank and of each character in columns.
        language: decides with them where they are not sure; None: they decide alone.
    """
    if language is None:
        return greedy(scores)
    letters: list[Letter] = []
    context, cuts = SPACE, _cuts(scores)
    for first, last in pairwise(cuts):
        own = scores[first:last]
        part = greedy(own) if own.max(-1).prod() >= SURE else search(own, language, context, len(cuts) > 2)
        for letter in part:
            letters.append(letter._replace(column=first + letter.column))
            context = extended(context, letter.number)
    return letters


def greedy(scores: Scores) -> list[Letter]:
    """The most probable character of each column, once where it is the same in several."""
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
    """A text that columns may say.

    Attributes:
        blank: probability of all alignments of this text with the columns that end in a blank.
        other: of those that end in its last character.
        prior: what the language model multiplies them by.
        context: of the next character, for the language model.
        columns: where its characters begin.
    """

    blank: float
    other: float
    prior: float
    context: int
    columns: tuple[int, ...]

    @property
    def score(self) -> float:
        return (self.blank + self.other) * self.prior


Beams = dict[Text, _Beam]


def search(scores: Scores, language: LanguageModel, context: int, may_be_empty: bool = True) -> list[Letter]:
    """What a part of a line says, by a prefix beam search (Hannun et al., arXiv 1408.2873).

    Args:
        scores: as for :func:`read_columns`.
        context: what is before the part, for the language model.
        may_be_empty: a part of a line may say nothing; of a whole line, the language model would rate nothing above
            a lone digit.
    """
    beams: Beams = {(): _Beam(1.0, 0.0, 1.0, context, ())}
    blanks = scores[:, 0].clip(1e-9).tolist()  # a 0 would leave no alignment
    tried: list[list[tuple[int, float]]] = [[] for _ in scores]
    for column, number in np.argwhere(scores >= LEAST).tolist():
        if number and blanks[column] < BLANK:
            tried[column].append((number, float(scores[column, number])))
    for column, some in enumerate(tried):
        if some or any(beam.other for beam in beams.values()):
            best = sorted(some, key=lambda pair: -pair[1])[:CHOICES]
            beams = _best(_step(beams, column, blanks[column], best, language))
    texts = beams if may_be_empty else [text for text in beams if text] or beams
    text = max(texts, key=lambda each: beams[each].score)
    share = beams[text].score / sum(beam.score for beam in beams.values())
    letters = []
    for number, (first, last) in zip(text, pairwise([*beams[text].columns, len(scores)]), strict=True):
        seen = float(scores[first : max(last, first + 1), number].max())
        letters.append(Letter(number, first, seen * share ** (1 / len(text))))
    return letters


def _step(
    beams: Beams, column: int, p_blank: float, tried: list[tuple[int, float]], language: LanguageModel
) -> Beams:
    """The texts after one more column, by the probabilities of the blank and of the characters that are tried."""
    after: Beams = {}

    def add(text: Text, blank: float, other: float, beam: _Beam) -> None:
        old = after.get(text)
        if old is None:
            after[text] = _Beam(blank, other, *beam[2:])
        else:
            columns = (old if old.blank + old.other >= blank + other else beam).columns
            after[text] = _Beam(old.blank + blank, old.other + other, old.prior, old.context, columns)

    for text, beam in beams.items():
        blank, other, prior, context, columns = beam
        add(text, (blank + other) * p_blank, 0.0, beam)
        for number, probability in tried:
            before = blank + other
            if text and number == text[-1]:
                add(text, 0.0, other * probability, beam)
                before = blank  # a letter comes twice only with a blank between
            if before:
                weight = prior * math.exp(WEIGHT * language.log_prob(context, number) + BONUS)
                grown = _Beam(0.0, 0.0, weight, extended(context, number), (*columns, column))
                add((*text, number), 0.0, before * probability, grown)
    return after


def _best(beams: Beams) -> Beams:
    """The best texts but those far behind. Where probabilities would soon be 0, they are divided by the best's."""
    ranked = sorted(((beam.score, text) for text, beam in beams.items()), key=itemgetter(0), reverse=True)[:BEAMS]
    highest, best = ranked[0]
    kept = {text: beams[text] for score, text in ranked if score >= FAR * highest}
    most = kept[best].blank + kept[best].other
    if most > _FAINT:
        return kept
    return {text: beam._replace(blank=beam.blank / most, other=beam.other / most) for text, beam in kept.items()}
