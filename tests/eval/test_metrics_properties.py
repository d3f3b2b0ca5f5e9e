"""Properties of all metrics: the order does not matter, perfect predictions have the maximum, none is below 0."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openpali.metrics import caption, ocr
from openpali.metrics.exact import exact_match
from openpali.metrics.scores import Scores
from openpali_lab.benchmarks.metrics import vqa

WORDS = ("yes", "no", "2", "two", "2.05", "5%", "a cat", "the cat", "T-shirt", "")
text = st.sampled_from(WORDS)
corner = st.integers(0, 9)
box = st.tuples(corner, corner, corner, corner).map(lambda b: (b[0], b[1], b[0] + b[2] + 1, b[1] + b[3] + 1))
choices = st.lists(st.sampled_from(WORDS[:-1]), min_size=2, max_size=4)


def _one(metric: Callable[..., Scores]) -> Callable[[Sequence[tuple[Any, Any]]], Scores]:
    return lambda samples: metric([p for p, _ in samples], [r for _, r in samples])


def _choose(samples: Sequence[tuple[Any, Any]]) -> Scores:
    return vqa.multiple_choice([p for p, _ in samples], [r for _, r in samples], [0] * len(samples))


many = st.lists(text, min_size=1, max_size=4)
ten = st.lists(text, min_size=10, max_size=10)
boxes = st.lists(box, min_size=1, max_size=3, unique=True)

# name: what scores samples, samples, the perfect answer to a reference, the score that counts
METRICS: dict[str, tuple[Any, Any, Any, str]] = {
    "exact": (_one(exact_match), st.tuples(text, many), lambda r: r[0], "exact_match"),
    "soft": (_one(vqa.soft_accuracy), st.tuples(text, text.map(lambda t: [t] * 3)), lambda r: r[0], "accuracy"),
    "vqa": (_one(vqa.vqa_accuracy), st.tuples(text, ten | text.map(lambda t: [t] * 10)), None, "vqa_accuracy"),
    "anls": (_one(vqa.anls), st.tuples(text, many), lambda r: r[-1], "anls"),
    "relaxed": (_one(vqa.relaxed_accuracy), st.tuples(text, text), lambda r: r, "relaxed_accuracy"),
    "count": (_one(vqa.count_accuracy), st.tuples(text, text), lambda r: r, "accuracy"),
    "choice": (_choose, st.tuples(text, choices), lambda r: r[0], "accuracy"),
    "rouge": (_one(caption.rouge_l), st.tuples(text, many), None, "rouge_l"),
    "ocr": (_one(ocr.ocr), st.tuples(text, text.filter(bool)), lambda r: r, "exact_match"),
}


@pytest.mark.parametrize("name", METRICS)
@given(data=st.data(), shuffle=st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_order_range_and_maximum(name: str, data: st.DataObject, shuffle: random.Random) -> None:
    score, sample, perfect, counts = METRICS[name]
    samples = data.draw(st.lists(sample, min_size=1, max_size=6))
    found = score(samples)
    order = shuffle.sample(range(len(samples)), len(samples))
    again = score([samples[i] for i in order])
    assert again.summary == pytest.approx(found.summary, abs=1e-12)
    for key, values in found.per_sample.items():
        assert again.per_sample[key] == [values[i] for i in order]
        if key not in ("cer", "wer"):  # error rates have no upper end
            assert all(0 <= value <= 1 for value in values)
    if perfect:
        assert score([(perfect(reference), reference) for _, reference in samples]).summary[counts] == 1


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10])
def test_a_vote_more_is_never_worth_less(count: int) -> None:
    def accuracy(agreeing: int) -> float:
        answers = ["cat"] * agreeing + [f"no{i}" for i in range(10 - agreeing)]
        return vqa.vqa_accuracy(["cat"], [answers]).summary["vqa_accuracy"]

    assert accuracy(count) <= accuracy(min(10, count + 1))
