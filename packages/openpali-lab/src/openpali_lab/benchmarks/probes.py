"""Linear probes on the features of a frozen encoder: few-shot by big_vision's ridge regression, full by the same
regression or by logistic regression (L-BFGS)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from openpali.metrics.scores import Scores, mean
from openpali_lab.benchmarks.features import Floats

L2 = 2.0**10  # big_vision's `fewshot_lsr.py`
BIAS = 100.0  # the constant feature
SEEDS = 3
SHOTS = (1, 5, 10, 25)
STRENGTHS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of l2, to select from

Labels = NDArray[np.int64]  # classes [N]
Probe = Callable[[Floats], Labels]  # features [B, D] -> classes [B]


def fewshot(
    train: Floats,
    train_labels: Labels,
    test: Floats,
    test_labels: Labels,
    *,
    shots: Sequence[int] = SHOTS,
) -> Scores:
    """The few-shot probe at each number of shots.

    Returns:
        ``acc/<k>-shot``, the mean over seeds (per sample too), and ``acc/<k>-shot/seed-<s>``; 0..1.
    """
    summary: dict[str, float] = {}
    per_sample: dict[str, list[float]] = {}
    for k in shots:
        hits = [fewshot_hits(train, train_labels, test, test_labels, k, seed) for seed in range(SEEDS)]
        summary[f"acc/{k}-shot"] = mean([float(each.mean()) for each in hits])
        summary |= {f"acc/{k}-shot/seed-{seed}": float(each.mean()) for seed, each in enumerate(hits)}
        per_sample[f"acc/{k}-shot"] = np.mean(hits, axis=0).tolist()
    return Scores(summary, per_sample)


def fewshot_hits(
    train: Floats, train_labels: Labels, test: Floats, test_labels: Labels, shots: int, seed: int
) -> NDArray[np.bool_]:
    """Which of ``test`` :func:`ridge` classifies correctly from ``shots`` examples per class (big_vision
    `fewshot_lsr.py`).

    Per seed, one generator permutes the examples of one class after the other, and the first ``shots`` of each are
    used (all, if there are fewer). So the examples at 5 shots are among those at 10.
    """
    rng = np.random.default_rng(seed)
    classes = np.unique(train_labels)
    chosen = np.concatenate([rng.permutation(np.flatnonzero(train_labels == c))[:shots] for c in classes])
    return np.asarray(ridge(train[chosen], train_labels[chosen])(test) == test_labels)


def ridge(train: Floats, train_labels: Labels) -> Probe:
    """Least squares with l2 on all of ``train`` (big_vision `fewshot_lsr.py`).

    Features ``[N, D]`` are whitened by the mean and deviation (+ 1e-5) of ``train``, a constant 100 is appended,
    targets are one-hot in {-1, 1}, and l2 is 2^10. big_vision's ``eigh`` gives the same solution. Classes that are
    not in ``train_labels`` are never predicted.
    """
    mean_, deviation = train.mean(0), train.std(0) + 1e-5
    x = _with_bias((train - mean_) / deviation)
    classes = np.unique(train_labels)
    y = 2.0 * (train_labels[:, None] == classes) - 1
    if len(x) >= x.shape[1]:
        weights = np.linalg.solve(x.T @ x + L2 * np.eye(x.shape[1]), x.T @ y)
    else:
        weights = x.T @ np.linalg.solve(x @ x.T + L2 * np.eye(len(x)), y)
    return lambda features: classes[(_with_bias((features - mean_) / deviation) @ weights).argmax(1)]


def limited(labels: Labels, limit: int | None) -> Labels:
    """Indices, in order, of the training examples that a limit leaves: equal shares of ``limit``, the first of each
    class, but at least one of each; all without a limit."""
    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    classes = np.unique(labels)
    share = max(1, limit // len(classes))
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:share] for c in classes]))


def logistic(
    train: Floats,
    train_labels: Labels,
    *,
    strengths: Sequence[float] = STRENGTHS,
    iterations: int = 100,
) -> Probe:
    """Multinomial logistic regression by L-BFGS on whitened features: CLIP's linear probe (arXiv 2103.00020, A.3).

    Args:
        strengths: l2 on the weights, relative to the mean loss. The strength with the highest accuracy on every
            fifth example is selected (the strongest among equals), and then all examples are fitted with it.
        iterations: maximum number of L-BFGS iterations.
    """
    if not strengths:
        raise ValueError("logistic regression needs at least one strength of l2")
    classes, targets = np.unique(train_labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"logistic regression needs two classes or more, got {len(classes)}")
    mean_, deviation = train.mean(0), train.std(0) + 1e-5
    x, y = torch.from_numpy((train - mean_) / deviation), torch.from_numpy(targets)
    chosen = strengths[0]
    if len(strengths) > 1:
        # every fifth example of each class: data sets are often sorted by class
        place = np.empty(len(targets), dtype=np.int64)
        place[np.argsort(targets, kind="stable")] = np.arange(len(targets))
        held = torch.from_numpy(place % 5 == 4)
        hits = {}
        for strength in sorted(strengths, reverse=True):
            weights = _fit_logistic(x[~held], y[~held], len(classes), strength, iterations)
            hits[strength] = int((_logits(x[held], weights).argmax(1) == y[held]).sum())
        chosen = max(hits, key=lambda strength: hits[strength])
    weights = _fit_logistic(x, y, len(classes), chosen, iterations)

    def predict(features: Floats) -> Labels:
        best = _logits(torch.from_numpy((features - mean_) / deviation), weights).argmax(1)
        return np.asarray(classes[best.numpy()], dtype=np.int64)

    return predict


def _fit_logistic(x: torch.Tensor, y: torch.Tensor, classes: int, strength: float, iterations: int) -> torch.Tensor:
    """Weights ``[D + 1, classes]``; the last row is the bias, without l2."""
    weights = torch.zeros(x.shape[1] + 1, classes, dtype=x.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=iterations, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(_logits(x, weights), y) + strength / 2 * weights[:-1].square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach()


def _logits(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return x @ weights[:-1] + weights[-1]


def _with_bias(x: Floats) -> Floats:
    return np.concatenate([x, np.full((len(x), 1), BIAS)], axis=1)
