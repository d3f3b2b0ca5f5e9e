"""Confidence intervals of means of per-sample scores, and of ratios of sums over clusters of samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

DRAWN = 2**20  # scores at a time


def mean_interval(values: Sequence[float], *, level: float = 0.95) -> tuple[float, float]:
    """Confidence interval (low, high) of the mean: :func:`wilson_interval` if each value is 0 or 1, of which a few
    equal ones would have a bootstrap interval of no width; else :func:`bootstrap_interval`."""
    if values and {*values} <= {0.0, 1.0}:
        return wilson_interval(int(sum(values)), len(values), level=level)
    return bootstrap_interval(values, level=level)


def wilson_interval(successes: int, trials: int, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (low, high) of a proportion (Wilson 1927; without continuity correction)."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, shrunk = successes / trials, 1 + z**2 / trials
    centre = share + z**2 / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return max(0.0, (centre - half) / shrunk), min(1.0, (centre + half) / shrunk)


def bootstrap_interval(
    values: Sequence[float], *, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval (low, high) of the mean. It depends on values and seed, not on the order.

    Args:
        values: one score per sample.
        level: confidence in (0, 1).
        resamples: how many times the samples are drawn with replacement.
    """
    # Sorted, because a draw picks positions: the order of the samples must not matter.
    scores = np.sort(np.asarray(values, dtype=np.float64))
    if scores.ndim != 1 or not scores.size:
        raise ValueError("bootstrap needs a non-empty list of per-sample scores")
    if not np.isfinite(scores).all():
        raise ValueError("bootstrap needs finite scores: found NaN or infinity")
    if not 0 < level < 1:
        raise ValueError(f"confidence level must be between 0 and 1, got {level}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    rng = np.random.default_rng(seed)
    some = max(1, DRAWN // scores.size)
    rows = [min(some, resamples - first) for first in range(0, resamples, some)]
    means = np.concatenate([scores[rng.integers(0, scores.size, (n, scores.size))].mean(1) for n in rows])
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def cluster_interval(
    counts: Sequence[tuple[float, float]],
    clusters: Sequence[str],
    other: Sequence[tuple[float, float]] | None = None,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile bootstrap interval (low, high) of a ratio of sums, as F1 over all words of all pages is one.

    Whole clusters are drawn: windows of one page at several sizes err alike, and count as one observation.

    Args:
        counts: numerator and denominator of each sample.
        clusters: name of each sample's cluster.
        other: the same counts of another system on the same samples; the interval is then that of the difference,
            the first minus the other.
        resamples: how many times the clusters are drawn with replacement.
    """
    names = sorted(set(clusters))
    if not names or len(clusters) != len(counts) or (other is not None and len(other) != len(counts)):
        raise ValueError(f"{len(counts)} counts, {len(clusters)} clusters: give one cluster per sample")
    places = [names.index(cluster) for cluster in clusters]
    drawn = np.random.default_rng(seed).multinomial(len(names), [1 / len(names)] * len(names), resamples)

    def ratios(pairs: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
        sums = np.zeros((len(names), 2))
        np.add.at(sums, places, np.asarray(pairs, np.float64))
        over, under = (drawn @ sums).T
        ratio: NDArray[np.float64] = np.divide(over, under, out=np.ones_like(over), where=under > 0)
        return ratio

    values = ratios(counts) - (0 if other is None else ratios(other))
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
