"""Confidence: from the log-probability of an answer to the probability that it is right, and how well that fits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from openpali.metrics.scores import check_paired

BINS = 15
STEPS = 100  # of Newton's method, which takes about ten
TINY = 1e-9
LEAST = 1e-3  # inverse temperature below which confidence is as good as constant
PRIOR = 0.1  # standard deviation of the offsets of names, before any answer is seen; chosen on development themes
LARGEST = 12.0  # log-odds; nearer to 0 and 1, log-probabilities in float32 are rounding

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """The probability that an answer is right: ``sigmoid(log-odds of the answer / temperature + offset)``.

    The log-odds are those of the model's probability ``p`` of the whole answer, ``log(p / (1 - p))``. A temperature
    above 1 corrects an overconfident model. An offset above 0 is for answers of which more than one text is right,
    as boxes: then P(correct) is above the probability of the text. Of answers of several classes, each may have one
    of ``offsets``, by name, that is added to it.
    """

    temperature: float
    offset: float = 0.0
    offsets: Mapping[str, float] = field(default_factory=dict)

    def confidence(self, log_prob: float, name: str = "") -> float:
        """Probability in 0..1 that an answer of this log-probability, with this name, is right."""
        offset = self.offset + self.offsets.get(name, 0.0)
        return float(_sigmoid(_log_odds([log_prob]) / self.temperature + offset)[0])

    def of(self, probability: float | None, name: str = "") -> float:
        """The same of an answer of this probability; None is 0."""
        return self.confidence(math.log(max(probability or 0.0, TINY)), name)


def fit_calibration(
    log_probs: Sequence[float], right: Sequence[bool], *, offset: bool = False, names: Sequence[str] = ()
) -> Calibration:
    """The calibration of the greatest likelihood, by Newton's method.

    Args:
        log_probs: of each answer, at most 0.
        right: whether it is right.
        offset: fit one, too; otherwise it is 0.
        names: the class of each answer; each class has an offset, too, near 0 where it is rare (by a normal prior
            of deviation :data:`PRIOR`). Without, there are no classes. Needs ``offset``.

    Raises:
        ValueError: unequal lengths, no answers, or accuracy does not rise with the log-probability, so that no
            temperature fits.
    """
    check_paired(log_probs, right, "verdicts")
    odds, known = _log_odds(log_probs), sorted(set(names))
    if names:
        check_paired(log_probs, names, "names")
    own = np.array([[name == each for each in known] for name in names], np.float64).reshape(len(odds), -1)
    columns = np.column_stack([*[odds, np.ones_like(odds)][: 1 + offset], own])
    # As if there were one more answer of each sort, half right: answers that are all right leave the odds finite.
    x, y = np.concatenate([columns, columns.mean(0, keepdims=True)]), np.append(np.asarray(right, np.float64), 0.5)
    parameters = np.zeros(1 + offset + len(known))
    prior = np.array([TINY] * (1 + offset) + [PRIOR**-2] * len(known))  # precisions

    def loss(some: Floats) -> float:
        return _loss(x @ some, y) + float((prior * some**2).sum()) / 2

    for _ in range(STEPS):
        p = _sigmoid(x @ parameters)
        curvature = (x * (p * (1 - p))[:, None]).T @ x + np.diag(prior)
        step = np.linalg.solve(curvature, x.T @ (p - y) + prior * parameters)
        while loss(parameters - step) > loss(parameters) and np.abs(step).max() > TINY:
            step /= 2
        parameters = parameters - step
        if np.abs(step).max() <= TINY:
            break
    if parameters[0] < LEAST:
        raise ValueError(
            f"accuracy does not rise with the log-probability of the {len(right)} answers, so that no confidence "
            "can be fitted: give other samples, or more"
        )
    temperature, rest = 1 / float(parameters[0]), parameters[1:].tolist()
    return Calibration(temperature, rest[0] if offset else 0.0, dict(zip(known, rest[1:], strict=True)))


def expected_calibration_error(confidences: Sequence[float], right: Sequence[bool], *, bins: int = BINS) -> float:
    """Mean over answers of the gap between confidence and share of right answers, in bins of equally many answers.

    Bins of equal width would hold few answers where a model is hardly ever unsure, and their gaps would be chance.
    Answers are sorted by confidence, equal ones in the order given, and cut into ``bins`` parts whose sizes differ
    by at most one (fewer parts if there are fewer answers).

    Returns:
        0..1.
    """
    check_paired(confidences, right, "verdicts")
    p, y = np.asarray(confidences, np.float64), np.asarray(right, np.float64)
    parts = np.array_split(np.argsort(p, kind="stable"), min(bins, len(p)))
    return math.fsum(len(part) * abs(float(p[part].mean() - y[part].mean())) for part in parts) / len(p)


def probability_of_count(probabilities: Sequence[float], count: int) -> float:
    """Probability in 0..1 that exactly ``count`` of independent events happen (Poisson binomial)."""
    counts = np.array([1.0])
    for p in probabilities:
        counts = np.convolve(counts, (1 - p, p))
    return float(counts[count])


def auroc(low: Sequence[float], high: Sequence[float]) -> float:
    """Probability that a value of ``high`` is above one of ``low``, a tie counting half; 0..1, by chance 0.5."""
    if not len(low) or not len(high):
        raise ValueError("AUROC needs values on both sides")
    _, places, counts = np.unique(np.concatenate([low, high]), return_inverse=True, return_counts=True)
    middle_ranks = np.cumsum(counts) - (counts - 1) / 2
    above = middle_ranks[places[len(low) :]].sum() - len(high) * (len(high) + 1) / 2
    return float(above / (len(low) * len(high)))


def _loss(odds: Floats, y: Floats) -> float:
    """Negative log-likelihood of the shares ``y`` that are right, by log-odds."""
    return float((np.logaddexp(0, odds) - y * odds).sum())


def _log_odds(log_probs: Sequence[float]) -> Floats:
    p = np.minimum(np.asarray(log_probs, np.float64), -1e-9)
    odds: Floats = p - np.log(-np.expm1(p))
    return odds.clip(-LARGEST, LARGEST)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))
