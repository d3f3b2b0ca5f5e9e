"""Means and differences of scores of several runs (seeds) on the same samples: intervals over both, and tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95
_ANGLES = np.linspace(0, math.pi / 2, 100_001)

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


def estimate(values: ArrayLike, level: float = LEVEL) -> Estimate:
    """The mean of scores ``[seeds, samples]``, with an interval as that of :func:`difference`.

    Raises:
        ValueError: no scores, or not two axes.
    """
    return _estimate([_checked(values)], _checked(values).mean(0), level)


def difference(ours: ArrayLike, theirs: ArrayLike, level: float = LEVEL) -> Estimate:
    """The difference of the means of two ways to train, ``ours - theirs``, each ``[its seeds, samples]``.

    The interval is of the difference that very many seeds and samples would have; that of another seed varies more.
    It is a t interval. Its variance is the sum of what seeds and samples contribute: the variance of the seeds'
    means in each of the two, and that of the samples' differences, which are paired. Both contain the noise of
    single answers, so that the interval is rather too wide. The degrees of freedom are Welch and Satterthwaite's.
    Of a single seed nothing is known about its variance, and only samples contribute.

    Raises:
        ValueError: no scores, not two axes, or other numbers of samples.
    """
    a, b = _checked(ours), _checked(theirs)
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"scores of {a.shape[1]} and {b.shape[1]} samples cannot be compared: give the same samples"
        )
    return _estimate([a, b], a.mean(0) - b.mean(0), level)


def t_bound(freedom: float, level: float = LEVEL) -> float:
    """The bound that the absolute value of Student's t has with probability ``level``.

    With t = sqrt(freedom) tan(angle), the density of the angle is proportional to cos(angle) ** (freedom - 1).

    Args:
        freedom: degrees of freedom, at least 1.
        level: in (0, 1).
    """
    return math.sqrt(freedom) * math.tan(float(np.interp(level, _below(freedom), _ANGLES)))


def t_test(t: float, freedom: float) -> float:
    """The probability that the absolute value of Student's t is above that of ``t``: a two-sided p value."""
    return 1 - float(np.interp(math.atan(abs(t) / math.sqrt(freedom)), _ANGLES, _below(freedom)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, which bound the chance of even one false finding among all of them."""
    found, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        found[index] = largest
    return found


def _below(freedom: float) -> Values:
    """For each of the angles, the probability of a smaller one."""
    density = np.cos(_ANGLES) ** (freedom - 1)
    below = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return np.asarray(below / below[-1], np.float64)


def _estimate(groups: list[Values], per_sample: Values, level: float) -> Estimate:
    value = float(per_sample.mean())
    means = [*(group.mean(1) for group in groups), per_sample]  # of seeds, and of samples
    parts = [(float(each.var(ddof=1)) / len(each), len(each) - 1) for each in means if len(each) > 1]
    variance = math.fsum(part for part, _ in parts)
    if not variance:
        return Estimate(value, value, value)
    freedom = variance**2 / math.fsum(part**2 / own for part, own in parts)
    deviation = math.sqrt(variance)
    half = t_bound(freedom, level) * deviation
    return Estimate(value, value - half, value + half, t_test(value / deviation, freedom))


def _checked(values: ArrayLike) -> Values:
    array = np.asarray(values, np.float64)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"scores must be [seeds, samples], not of shape {array.shape}")
    return array
