"""Error rates of recognised text."""

from __future__ import annotations

from collections.abc import Sequence

from .edit import edit_distance
from .scores import Scores, check_paired, mean


def ocr(predictions: Sequence[str], references: Sequence[str]) -> Scores:
    """Character and word error rates, and exact match.

    A rate is the sum of edit distances divided by the sum of reference lengths (corpus level, so long texts weigh
    more); it can exceed 1. Words are split at white space; it is collapsed before characters are compared.

    Returns:
        ``cer``, ``wer`` (lower is better) and ``exact_match``. Per-sample rates divide by the sample's own length;
        a sample with an empty reference has the rate 0 if nothing was predicted, else 1.
    """
    check_paired(predictions, references)
    words = [(p.split(), r.split()) for p, r in zip(predictions, references, strict=True)]
    if not any(r for _, r in words):
        raise ValueError("all references are empty: an error rate needs text to compare with")
    chars = [(" ".join(p), " ".join(r)) for p, r in words]
    char_errors = [edit_distance(p, r) for p, r in chars]
    word_errors = [edit_distance(p, r) for p, r in words]
    char_counts = [len(r) for _, r in chars]
    word_counts = [len(r) for _, r in words]
    exact = [float(p == r) for p, r in chars]
    return Scores(
        {
            "cer": sum(char_errors) / sum(char_counts),
            "wer": sum(word_errors) / sum(word_counts),
            "exact_match": mean(exact),
        },
        {
            "cer": list(map(_rate, char_errors, char_counts)),
            "wer": list(map(_rate, word_errors, word_counts)),
            "exact_match": exact,
        },
    )


def _rate(errors: int, count: int) -> float:
    return errors / count if count else float(errors > 0)
