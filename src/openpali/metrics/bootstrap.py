"""Bootstrap intervals of means of per-sample scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DRAWN = 2**20  # scores at a time


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
