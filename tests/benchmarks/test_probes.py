"""Linear probes: both forms of big_vision's ridge regression against its objective, and logistic regression."""

from __future__ import annotations

import numpy as np
import pytest

from openpali_lab.benchmarks import probes
from openpali_lab.benchmarks.probes import BIAS, L2, fewshot, fewshot_hits, logistic, ridge


def fewshot_accuracy(*arguments: object, seed: int) -> float:
    return float(fewshot_hits(*arguments, seed).mean())  # type: ignore[arg-type]


def ridge_accuracy(train: np.ndarray, labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray) -> float:
    return float((ridge(train, labels)(test) == test_labels).mean())


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


def test_fewshot_uses_k_per_class_and_depends_only_on_the_seed() -> None:
    train, labels = blobs(30, 40, 0)
    test, test_labels = blobs(30, 40, 1)
    accuracies = [fewshot_accuracy(train, labels, test, test_labels, 5, seed=seed) for seed in (0, 0, 1, 2)]
    assert accuracies[0] == accuracies[1]
    assert len(set(accuracies)) > 1
    assert min(accuracies) > 0.5
    everything = fewshot_accuracy(train, labels, test, test_labels, 30, seed=0)
    assert everything == ridge_accuracy(train, labels, test, test_labels)


def test_a_limit_takes_equal_shares_of_the_classes() -> None:
    labels = np.array([3, 3, 3, 5, 3, 5, 5, 5, 9])
    assert probes.limited(labels, 6).tolist() == [0, 1, 3, 5, 8]  # two of each, and there is one 9
    assert probes.limited(labels, 1).tolist() == [0, 3, 8]  # one of each at least
    for all_of_them in (None, 9, 100):
        assert probes.limited(labels, all_of_them).tolist() == list(range(9))


def test_labels_need_not_be_consecutive() -> None:
    train, labels = blobs(10, 20, 0)
    assert ridge_accuracy(train, 10 * labels + 3, train, 10 * labels + 3) == 1.0


def test_noise_is_at_chance() -> None:
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(300, 16)), rng.normal(size=(3000, 16))
    labels, test_labels = rng.integers(0, 3, 300), rng.integers(0, 3, 3000)
    assert abs(ridge_accuracy(train, labels, test, test_labels) - 1 / 3) < 0.06


def test_fewshot_by_shots_and_seeds() -> None:
    train, labels = blobs(30, 40, 0)
    test, test_labels = blobs(30, 40, 1)
    found = fewshot(train, labels, test, test_labels, shots=(1, 5))
    scores = found.summary
    for k in (1, 5):
        by_seed = [fewshot_accuracy(train, labels, test, test_labels, k, seed=seed) for seed in range(3)]
        assert [scores[f"acc/{k}-shot/seed-{seed}"] for seed in range(3)] == by_seed
        assert scores[f"acc/{k}-shot"] == pytest.approx(np.mean(by_seed))
        assert np.mean(found.per_sample[f"acc/{k}-shot"]) == pytest.approx(np.mean(by_seed))


def test_the_support_set_equals_big_visions(monkeypatch: pytest.MonkeyPatch) -> None:
    """One generator per seed permutes one class after the other, and the first of each are used."""
    labels = np.tile([0, 1, 2], 10)
    rng = np.random.default_rng(7)
    expected = [rng.permutation(np.flatnonzero(labels == c))[:4] for c in (0, 1, 2)]
    taken: list[list[int]] = []

    def look(train: np.ndarray, _: np.ndarray) -> object:
        taken.append(train[:, 0].tolist())
        return lambda features: np.zeros(len(features))

    monkeypatch.setattr(probes, "ridge", look)
    features = np.arange(30.0)[:, None]
    fewshot_hits(features, labels, features, labels, 4, 7)
    assert taken == [np.concatenate(expected).tolist()]


def test_logistic_is_the_minimum_of_its_objective() -> None:
    """At the minimum the mean of (probability - truth) x feature is -l2 x weight: checked by moving each weight."""
    rng = np.random.default_rng(0)
    train, labels = rng.normal(size=(60, 2)), rng.integers(0, 2, 60)
    train[labels == 1] += 0.8
    whitened = (train - train.mean(0)) / (train.std(0) + 1e-5)

    def objective(weights: np.ndarray) -> float:  # of two classes: one direction and a bias
        z = whitened @ weights[:2] + weights[2]
        loss = np.log1p(np.exp(-np.where(labels == 1, z, -z))).mean()
        return float(loss + 0.1 / 2 * (weights[:2] ** 2).sum() / 2)  # both classes share the direction in halves

    best = np.zeros(3)
    for _ in range(4000):
        step = np.array([(objective(best + 1e-5 * e) - objective(best - 1e-5 * e)) / 2e-5 for e in np.eye(3)])
        best -= 0.5 * step
        if np.abs(step).max() < 1e-9:
            break
    grid = rng.normal(size=(2000, 2)) * 2
    z = (grid - train.mean(0)) / (train.std(0) + 1e-5) @ best[:2] + best[2]
    clear = np.abs(z) > 1e-2  # beside the line both agree
    found = logistic(train, labels, strengths=(0.1,))(grid)
    assert (found[clear] == (z > 0)[clear]).all()
    assert 0.1 < found.mean() < 0.9


def test_logistic_selects_the_better_l2() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([3, 8], 40)
    train = rng.normal(size=(80, 60))
    train[:, 0] += np.where(labels == 8, 1.5, -1.5)
    test_labels = np.repeat([3, 8], 500)
    test = rng.normal(size=(1000, 60))
    test[:, 0] += np.where(test_labels == 8, 1.5, -1.5)
    chosen = (logistic(train, labels, strengths=(1e-6, 0.1))(test) == test_labels).mean()
    loose = (logistic(train, labels, strengths=(1e-6,))(test) == test_labels).mean()
    assert chosen > loose + 0.02
    # Of a rare class the strongest l2 leaves nothing but the bias, which never says it.
    rare, rare_labels = train[20:], labels[20:]
    rare, rare_labels = np.concatenate([rare[:8], rare[20:]]), np.concatenate([rare_labels[:8], rare_labels[20:]])
    assert not (logistic(rare, rare_labels, strengths=(100.0,))(test) == 3).any()
    assert (logistic(rare, rare_labels, strengths=(100.0, 0.1))(test) == 3).any()
    with pytest.raises(ValueError, match="two classes or more, got 1"):
        logistic(train, np.zeros(80, dtype=np.int64))
    with pytest.raises(ValueError):
        logistic(train, labels, strengths=())
