"""Means and differences of scores of several runs (seeds) on the same samples: intervals over both, and tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95

Values = NDArray[np.float64]  # [seeds, samples]


class Estimate(NamedTuple):
    """A value with its interval, in the unit of the scores. Without enough seeds and samples it has no width.

    Attributes:
        p: two-sided p value of the t test that the value is 0; 1 where the interval has no width.
    """

    value: float
    low: float
    high: float
    p: float = 1.0


def estimate(values: ArrayLike) -> Estimate:
    """The mean of scores ``[seeds, samples]``, with an interval as that of :func:`difference`."""
    return _estimate([_checked(values)], _checked(values).mean(0))


def difference(ours: ArrayLike, theirs: ArrayLike) -> Estimate:
    """The difference of the means of two ways to train, ``ours - theirs``, each ``[its seeds, samples]``.

    The interval is for the expected difference over seeds and samples; a single further seed varies more.
    It is a t interval. Its variance is the sum of what seeds and samples contribute: the variance of the seeds'
    means in each of the two, and that of the samples' differences, which are paired. Both contain the noise of
    single answers, so that the interval is rather too wide. The degrees of freedom are Welch and Satterthwaite's.
    Of a single seed nothing is known about its variance, and only samples contribute.
    """
    a, b = _checked(ours), _checked(theirs)
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"scores of {a.shape[1]} and {b.shape[1]} samples cannot be compared: give the same samples"
        )
    return _estimate([a, b], a.mean(0) - b.mean(0))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, which bound the chance of even one false finding among all of them."""
    found, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        found[index] = largest
    return found


def _estimate(groups: list[Values], per_sample: Values) -> Estimate:
    value = float(per_sample.mean())
    means = [*(group.mean(1) for group in groups), per_sample]  # of seeds, and of samples
    parts = [(float(each.var(ddof=1)) / len(each), len(each) - 1) for each in means if len(each) > 1]
    variance = math.fsum(part for part, _ in parts)
    if not variance:
        return Estimate(value, value, value)
    freedom = variance**2 / math.fsum(part**2 / own for part, own in parts)
    deviation = math.sqrt(variance)
    from scipy.special import stdtr, stdtrit  # Student's t; scipy.stats takes a second to import

    half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * deviation
    return Estimate(value, value - half, value + half, 2 * float(stdtr(freedom, -abs(value) / deviation)))


def _checked(values: ArrayLike) -> Values:
    array = np.asarray(values, np.float64)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"scores must be [seeds, samples], not of shape {array.shape}")
    return array
