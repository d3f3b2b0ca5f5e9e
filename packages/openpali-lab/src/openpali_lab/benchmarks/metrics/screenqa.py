"""Scores of ScreenQA's short answers, as ``code/metrics.py`` of google-research-datasets/screen_qa (SQA-S)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from openpali.metrics.boxes import f1
from openpali.metrics.scores import Scores, check_answers, check_paired, mean_scores

NO_ANSWER = "<no answer>"

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def short_answers(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Scores:
    """Exact match and F1 of words, each with the best reference, after SQuAD's normalisation.

    :data:`NO_ANSWER` is right, and fully, only where it is among the references; no other answer is compared with
    it.

    Returns:
        ``exact_match`` and ``f1`` in 0..1, means over samples, with per-sample values.
    """
    check_paired(predictions, references)
    check_answers(references)
    pairs = [_scores(*pair) for pair in zip(predictions, references, strict=True)]
    return mean_scores({"exact_match": [same for same, _ in pairs], "f1": [alike for _, alike in pairs]})


def normalize(text: str) -> str:
    """Lower case, without ASCII punctuation and articles, and with single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def _scores(prediction: str, references: Sequence[str]) -> tuple[float, float]:
    if prediction == NO_ANSWER:
        same = float(NO_ANSWER in references)
        return same, same
    answer, others = normalize(prediction), [normalize(text) for text in references if text != NO_ANSWER]
    return float(answer in others), max((_word_f1(answer, other) for other in others), default=0.0)


def _word_f1(answer: str, reference: str) -> float:
    """0 if both are empty, as in the official script."""
    words, others = answer.split(), reference.split()
    hits = sum((Counter(words) & Counter(others)).values())
    return f1(hits, len(words), len(others)) if hits else 0.0
