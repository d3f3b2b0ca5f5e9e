"""The result type of all metrics, and the checks of their inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Scores:
    """The result of a metric."""

    # name -> value for the whole set. Fractions in 0..1, except CIDEr, which is times 100
    summary: dict[str, float]
    # name -> one value per sample in input order, in the unit of the summary; only for metrics that have a value
    # per sample
    per_sample: dict[str, list[float]] = field(default_factory=dict)
    # name -> numerator and denominator of each sample; only for metrics that are ratios of sums
    counts: dict[str, Sequence[tuple[float, float]]] = field(default_factory=dict)


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean with exact summation: the order of the values does not change the result."""
    return math.fsum(values) / len(values)


def mean_scores(per_sample: Mapping[str, Sequence[float]]) -> Scores:
    """Scores whose summary is the mean over samples."""
    kept = {name: [float(value) for value in values] for name, values in per_sample.items()}
    return Scores({name: mean(values) for name, values in kept.items()}, kept)


def macro_values(count: int, groups: Sequence[tuple[Sequence[int], Sequence[float]]]) -> list[float]:
    """One value per sample; the mean of the values is the mean over groups of each group's mean.

    Args:
        count: number of samples.
        groups: for each group, the indices of its samples and their values; a sample may be in several groups.
    """
    out = [0.0] * count
    for owners, values in groups:
        weight = count / (len(groups) * len(values))
        for owner, value in zip(owners, values, strict=True):
            out[owner] += weight * value
    return out


def check_paired(predictions: Sequence[Any], references: Sequence[Any], what: str = "references") -> None:
    """Raises ``ValueError`` unless there is one entry of ``references`` per prediction, and at least one."""
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions but {len(references)} {what}: give one per sample")
    if not predictions:
        raise ValueError("no samples to score: predictions are empty")


def check_answers(references: Sequence[Sequence[str]]) -> None:
    """Raises ``ValueError`` where a sample has no reference text, or a bare string instead of a list of them."""
    for index, texts in enumerate(references):
        if isinstance(texts, str):
            raise ValueError(f"references of sample {index} are one string, not a list of strings")
        if not texts:
            raise ValueError(f"sample {index} has no reference")
