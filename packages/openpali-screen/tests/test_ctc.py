"""From probabilities of characters in columns to text."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import groupby, product

import numpy as np
import pytest

from openpali.text.characters import CHARACTERS, numbers_of
from openpali_screen.language import SPACE, LanguageModel, extended
from openpali_screen.read import ctc
from openpali_screen.read.ctc import Letter, Scores, greedy, read_columns, search
from openpali_screen.read.fit_language import fit_language


@pytest.fixture(scope="module")
def language() -> LanguageModel:
    return fit_language(["NOTIFICATIONS", "notifications here", "will you PROFILE", "профиль"] * 20, CHARACTERS)


def columns(text: str, **unsure: float) -> Scores:
    """Scores that say a text, each character after a column of "no new character".

    Args:
        unsure: probabilities of characters that have less than the rest; "no new character" has what is missing.
    """
    numbers = numbers_of(text)
    assert numbers
    scores = np.full((2 * len(text) + 1, 1 + len(CHARACTERS)), 1e-7, np.float32)
    scores[::2, 0] = 1
    for place, (character, number) in enumerate(zip(text, numbers, strict=True)):
        sure = unsure.get(character, 0.999)
        scores[2 * place + 1, [0, number]] = 1 - sure, sure
    return scores


def said(letters: list[Letter]) -> str:
    return "".join(CHARACTERS[letter.number - 1] for letter in letters)


def test_the_likeliest_characters_are_read_once(language: LanguageModel) -> None:
    scores = columns("will x")
    scores = np.repeat(scores, 2, axis=0)
    assert said(greedy(scores)) == said(read_columns(scores, language)) == "will x"
    assert [letter.column for letter in greedy(scores)] == [2, 6, 10, 14, 18, 22]


def test_a_language_model_decides_where_columns_are_unsure(language: LanguageModel) -> None:
    faint = columns("NOTIFICATIONS", I=0.4)
    assert said(read_columns(faint)) == "NOTFCATONS"
    assert said(read_columns(faint, language)) == "NOTIFICATIONS"
    cyrillic = columns("PROFILE")
    [latin, look_alike] = numbers_of("OО") or []
    cyrillic[5, [latin, look_alike]] = 0.4, 0.6
    assert said(read_columns(cyrillic)) == "PRОFILE"
    letters = read_columns(cyrillic, language)
    assert said(letters) == "PROFILE"
    assert 0.2 < math.prod(letter.probability for letter in letters) < 0.45


def test_what_columns_are_sure_of_stays(language: LanguageModel) -> None:
    strange = columns("xqzw NOTIFCATIONS qq")
    assert read_columns(strange, language) == greedy(strange)


def test_columns_that_say_anything_say_something(language: LanguageModel) -> None:
    scores = np.full((9, 1 + len(CHARACTERS)), 1 / len(CHARACTERS), np.float32)
    scores[:, 0] = 0
    assert read_columns(scores, language) == []
    assert read_columns(scores[:0], language) == []


def test_a_line_that_is_found_says_something_where_columns_are_unsure(language: LanguageModel) -> None:
    """No language model expects a lone digit."""
    assert said(read_columns(columns("4", **{"4": 0.55}), language)) == "4"
    assert said(read_columns(columns("4", **{"4": 0.45}), language)) == "4"
    assert read_columns(columns("4", **{"4": 0.3}), language) == []  # the blank is sure


@pytest.mark.parametrize("seed", range(8))
def test_the_search_finds_the_best_text(
    seed: int, language: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(seed)
    some = [0, *(numbers_of("Nlo") or [])]
    scores = np.full((5, 1 + len(CHARACTERS)), 1e-9, np.float32)
    scores[:, some] = rng.dirichlet(np.full(len(some), 0.7), len(scores))
    monkeypatch.setattr(ctc, "BEAMS", 400)
    monkeypatch.setattr(ctc, "LEAST", 0.0)
    totals: dict[tuple[int, ...], float] = defaultdict(float)
    for path in product(some, repeat=len(scores)):
        text = tuple(number for number, _ in groupby(path) if number)
        totals[text] += math.prod(float(row[number]) for row, number in zip(scores, path, strict=True))

    def value(text: tuple[int, ...]) -> float:
        context, total = SPACE, math.log(totals[text])
        for number in text:
            total += ctc.WEIGHT * language.log_prob(context, number) + ctc.BONUS
            context = extended(context, number)
        return total

    best = max(totals, key=value)
    letters = search(scores, language, SPACE)
    assert tuple(letter.number for letter in letters) == best
    assert all(0 <= letter.probability <= 1 for letter in letters)
