"""Intervals over seeds and samples, against SciPy and a simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from openpali_lab.study.seeds import difference, estimate, holm


def test_one_seed_is_a_t_test_of_paired_samples() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.5, 1, (2, 1, 40))
    test = stats.ttest_rel(a[0], b[0])
    expected = test.confidence_interval()
    assert difference(a, b)[1:] == pytest.approx((expected.low, expected.high, test.pvalue), rel=1e-4)


def test_seeds_without_noise_of_samples_are_a_welch_test() -> None:
    a, b = np.array([0.4, 0.5, 0.45]), np.array([0.3, 0.1])
    same = np.ones((1, 7))  # each sample has its seed's score
    test = stats.ttest_ind(a, b, equal_var=False)
    expected = test.confidence_interval()
    found = difference(a[:, None] * same, b[:, None] * same)
    assert found.value == pytest.approx(0.25)
    assert found[1:] == pytest.approx((expected.low, expected.high, test.pvalue), rel=1e-4)


def test_intervals_contain_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(400):
        samples = rng.normal(0, 0.2, 60)  # how much harder a sample is for one way than for the other
        ours, theirs = rng.normal(0, 0.05, (2, 3, 1))
        noise = rng.normal(0, 0.1, (2, 3, 60))
        found = difference(0.1 + ours + samples + noise[0], theirs + noise[1])
        hits.append(found.low <= 0.1 <= found.high)
    assert 0.93 <= np.mean(hits) <= 0.995


def test_a_mean_and_what_cannot_be_compared() -> None:
    assert estimate([[0.0, 1.0], [0.5, 0.5]]).value == 0.5
    assert estimate([[0.5]]) == (0.5, 0.5, 0.5, 1.0)
    for compute, given, message in (
        (difference, ([[0, 1]], [[0, 1, 1]]), "scores of 2 and 3 samples cannot be compared"),
        (estimate, ([0, 1],), r"not of shape \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            compute(*given)


def test_a_clear_difference_has_a_small_p() -> None:
    found = difference([[1, 2, 4, 3], [1, 2, 3, 4]], [[0, 1, 1, 2], [0, 2, 1, 1]])
    assert 0 < found.p < 0.05 < 1 == estimate([[2.0]]).p
    assert found.low > 0


def test_holm_adjusts_the_smallest_most_and_keeps_the_order() -> None:
    assert holm([0.02, 0.5, 0.001, 0.03]) == pytest.approx([0.06, 0.5, 0.004, 0.06])
    assert holm([0.6, 0.9]) == [1, 1]
    assert holm([]) == []
