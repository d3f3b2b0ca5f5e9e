"""Linear probes: big_vision's few-shot ridge, against its own formula written out, in both of its forms."""

from __future__ import annotations

import numpy as np
import pytest

from openpali.eval.probes import BIAS, L2, fewshot_accuracy, ridge_accuracy


def blobs(per_class: int, dim: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three well separated clouds."""
    rng = np.random.default_rng(seed)
    centres = np.eye(3, dim) * 8
    labels = np.repeat(np.arange(3), per_class)
    return centres[labels] + rng.normal(size=(3 * per_class, dim)), labels


@pytest.mark.parametrize("dim", [5, 200])  # fewer and more features than samples: two forms of one solution
def test_ridge_is_the_minimum_of_its_objective(dim: int) -> None:
    train, labels = blobs(10, dim, 0)
    test, test_labels = blobs(50, dim, 1)
    mean, deviation = train.mean(0), train.std(0) + 1e-5
    x = np.hstack([(train - mean) / deviation, np.full((30, 1), BIAS)])
    y = np.where(labels[:, None] == np.arange(3), 1.0, -1.0)
    stacked = np.vstack([x, np.sqrt(L2) * np.eye(dim + 1)])  # least squares with l2 as further rows
    weights = np.linalg.lstsq(stacked, np.vstack([y, np.zeros((dim + 1, 3))]), rcond=None)[0]
    z = np.hstack([(test - mean) / deviation, np.full((150, 1), BIAS)])
    expected = ((z @ weights).argmax(1) == test_labels).mean()
    assert ridge_accuracy(train, labels, test, test_labels) == pytest.approx(expected)


def test_fewshot_takes_k_per_class_and_depends_on_the_seed_alone() -> None:
    train, labels = blobs(30, 40, 0)
    test, test_labels = blobs(30, 40, 1)
    accuracies = [fewshot_accuracy(train, labels, test, test_labels, 5, seed=seed) for seed in (0, 0, 1, 2)]
    assert accuracies[0] == accuracies[1]
    assert len(set(accuracies)) > 1
    assert min(accuracies) > 0.5
    everything = fewshot_accuracy(train, labels, test, test_labels, 30, seed=0)
    assert everything == ridge_accuracy(train, labels, test, test_labels)


def test_labels_need_not_be_consecutive() -> None:
    train, labels = blobs(10, 20, 0)
    assert ridge_accuracy(train, 10 * labels + 3, train, 10 * labels + 3) == 1.0


def test_noise_is_at_chance() -> None:
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(300, 16)), rng.normal(size=(3000, 16))
    labels, test_labels = rng.integers(0, 3, 300), rng.integers(0, 3, 3000)
    assert abs(ridge_accuracy(train, labels, test, test_labels) - 1 / 3) < 0.06
