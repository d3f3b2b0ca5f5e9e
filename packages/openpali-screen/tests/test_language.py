"""The language model of characters."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openpali.text.characters import CHARACTERS, numbers_of
from openpali_screen.language import BITS, ORDER, SPACE, LanguageModel, extended, shortened
from openpali_screen.read import fit_language as fitting
from openpali_screen.read.fit_language import fit_language

TEXTS = ["the theatre there", "then they bathe"] * 5 + ["тот том", "5%"]


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return fit_language(TEXTS, CHARACTERS)


def context_of(text: str) -> int:
    numbers = numbers_of(text)
    assert numbers
    context = 0
    for number in numbers:
        context = extended(context, number)
    return context


def number_of(character: str) -> int:
    [number] = numbers_of(character) or []
    return number


@pytest.mark.parametrize("text", ["", " ", "th", " the", "qqqq", "ть", "z the"])
def test_the_characters_after_a_context_are_a_distribution(model: LanguageModel, text: str) -> None:
    context = context_of(text) if text else 0
    total = sum(math.exp(model.log_prob(context, number)) for number in range(1, len(CHARACTERS) + 1))
    assert total == pytest.approx(1, abs=1e-5)


def test_what_follows_often_is_likely_and_scripts_keep_together(model: LanguageModel) -> None:
    after_th, after_to = context_of(" th"), context_of(" то")
    assert model.log_prob(after_th, number_of("e")) > math.log(0.5)
    assert model.log_prob(after_th, number_of("e")) > model.log_prob(after_th, number_of("е")) + 3
    assert model.log_prob(after_to, number_of("т")) > model.log_prob(after_to, number_of("t"))


def test_counts_are_discounted_as_witten_and_bell_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "_LEAST", (1,) * ORDER)
    model = fit_language(["ab", "ac", "ab"], CHARACTERS)
    # after "a": b twice, c once, two kinds; below that the single characters: 6 spaces, 3 a, 2 b, 1 c, four kinds
    lower = (2 + 4 / len(CHARACTERS)) / (12 + 4)
    assert model.log_prob(number_of("a"), number_of("b")) == pytest.approx(
        math.log((2 + 2 * lower) / (3 + 2)), abs=1e-6
    )


def test_rare_ngrams_are_dropped_and_unknown_characters_break_texts() -> None:
    kept = fit_language(["abcde"] * 20 + ["xyzxy"], CHARACTERS)
    assert context_of("abcd") << BITS | number_of("e") in kept.ngrams
    assert context_of("xyzx") << BITS | number_of("y") not in kept.ngrams
    assert np.all(np.diff(kept.ngrams) > 0)
    broken = fit_language(["ab漢cd"] * 20, CHARACTERS)
    assert number_of("b") << BITS | number_of("c") not in broken.ngrams
    assert number_of("c") << BITS | number_of("d") in broken.ngrams


@given(st.lists(st.integers(1, len(CHARACTERS)), min_size=1, max_size=12))
def test_contexts_keep_the_last_characters(numbers: list[int]) -> None:
    context = 0
    for number in numbers:
        context = extended(context, number)
    digits = [context >> BITS * place & (1 << BITS) - 1 for place in range(ORDER)]
    own = numbers[-(ORDER - 1) :]
    assert [each for each in reversed(digits) if each] == own
    rest = shortened(context)
    assert rest == context - (own[0] << BITS * (len(own) - 1))
    assert number_of(" ") == SPACE
