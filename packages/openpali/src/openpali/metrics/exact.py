"""Exact match of texts."""

from __future__ import annotations

from collections.abc import Sequence

from .scores import Scores, check_answers, check_paired, mean_scores


def exact_match(predictions: Sequence[str], references: Sequence[Sequence[str]], *, lower: bool = False) -> Scores:
    """Share of predictions equal to any of their references, without normalisation except optional lower-casing.

    Returns:
        ``exact_match`` in 0..1, with per-sample values.
    """
    check_paired(predictions, references)
    check_answers(references)
    pairs = zip(predictions, references, strict=True)
    return mean_scores(
        {"exact_match": [float(fold(p, lower) in {fold(text, lower) for text in r}) for p, r in pairs]}
    )


def fold(text: str, lower: bool) -> str:
    """The text as it is compared."""
    return text.lower() if lower else text
