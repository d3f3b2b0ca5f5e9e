"""Mixtures: exact rates, every example once an epoch, a pure function of (seed, counter)."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openpali.data.pipeline.mixture import BLOCK, ENDLESS, LARGE, Draw, Mixture, _keys, _scatter
from openpali.rng import generator

sources = st.lists(st.tuples(st.integers(1, 1500), st.floats(0.05, 20)), min_size=1, max_size=6)
seeds = st.integers(0, 2**31)


def draws(mixture: Mixture, count: int) -> list[Draw]:
    return [mixture[i] for i in range(count)]


@given(sources, seeds, st.integers(0, 50))
@settings(max_examples=10, deadline=None)
def test_rates_are_exact_in_every_block(given_: list[tuple[int, float]], seed: int, block: int) -> None:
    sizes, weights = [s for s, _ in given_], [w for _, w in given_]
    mixture = Mixture(sizes, weights, seed)
    found = Counter(mixture[block * BLOCK + i].source for i in range(BLOCK))
    assert sum(found.values()) == BLOCK
    for source, weight in enumerate(weights):
        assert abs(found[source] - weight / sum(weights) * BLOCK) < 1


@given(sources, seeds)
@settings(max_examples=10, deadline=None)
def test_every_example_comes_once_an_epoch(given_: list[tuple[int, float]], seed: int) -> None:
    mixture = Mixture([s for s, _ in given_], [w for _, w in given_], seed)
    by_source: dict[int, list[Draw]] = defaultdict(list)
    for draw in draws(mixture, 2 * BLOCK):
        by_source[draw.source].append(draw)
    for source, drawn in by_source.items():
        size = mixture.sizes[source]
        for start in range(0, len(drawn), size):
            epoch = drawn[start : start + size]
            assert {d.epoch for d in epoch} == {start // size}
            assert len({d.example for d in epoch}) == len(epoch)
            assert all(0 <= d.example < size for d in epoch)
            if len(epoch) == size:
                assert {d.example for d in epoch} == set(range(size))


@given(sources, seeds, st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
@settings(max_examples=10, deadline=None)
def test_a_draw_depends_on_seed_and_counter_alone(
    given_: list[tuple[int, float]], seed: int, counters: list[int]
) -> None:
    sizes, weights = [s for s, _ in given_], [w for _, w in given_]
    there = Mixture(sizes, weights, seed)
    forward = {c: there[c] for c in counters}
    again = Mixture(sizes, weights, seed)
    assert {c: again[c] for c in reversed(counters)} == forward


def test_seeds_and_epochs_differ() -> None:
    orders = [[d.example for d in draws(Mixture([BLOCK], [1.0], seed), 2 * BLOCK)] for seed in (0, 1)]
    assert orders[0] != orders[1]
    assert orders[0][:BLOCK] != orders[0][BLOCK:]
    turns = [[d.source for d in draws(Mixture([9, 9], [1, 1], seed), BLOCK)] for seed in (0, 1)]
    assert turns[0] != turns[1]
    mixture = Mixture([9, 9], [1, 1], 0)
    assert turns[0] != [mixture[BLOCK + i].source for i in range(BLOCK)]


def test_each_source_is_shuffled_once_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are: a shuffle costs more than a draw."""
    made: list[tuple[int, ...]] = []
    monkeypatch.setattr(
        "openpali.data.pipeline.mixture.generator", lambda *key: made.append(key) or generator(*key)
    )
    draws(Mixture([1000] * 40, [1.0] * 40, 987), 500)
    assert sorted(made) == sorted({*made})
    assert len(made) == 40 + 1  # one for the order of the sources


def test_sources_are_well_mixed() -> None:
    """64 consecutive draws deviate from the rates no more than a fair coin."""
    turns = np.array([d.source for d in draws(Mixture([9, 9], [1, 1], 3), 8 * BLOCK)]).reshape(-1, 64)
    assert turns.sum(axis=1).min() > 12
    assert turns.sum(axis=1).max() < 52


def test_an_endless_source_is_read_in_order_from_its_own_start() -> None:
    starts = set()
    for seed in (5, 6):
        mixture = Mixture([ENDLESS, 10, ENDLESS], [3, 1, 2], seed)
        for source in (0, 2):
            drawn = [d.example for d in draws(mixture, 2 * BLOCK) if d.source == source]
            assert drawn == [(drawn[0] + i) % ENDLESS for i in range(len(drawn))]
            starts.add(drawn[0])
    assert min(abs(a - b) for a in starts for b in starts if a != b) > 2 * BLOCK
    assert len(starts) == 4


def test_sources_that_cannot_be_mixed_are_refused() -> None:
    with pytest.raises(ValueError):
        Mixture([1, 2], [1.0], 0)
    with pytest.raises(ValueError):
        Mixture([], [], 0)
    for sizes, weights in (([0], [1.0]), ([1], [0.0]), ([1], [float("nan")]), ([1], [float("inf")]), ([1], [-1.0])):
        with pytest.raises(ValueError):
            Mixture(sizes, weights, 0)
    with pytest.raises(ValueError):
        Mixture([5, 5], [1.0, 1e-4], 0)
    with pytest.raises(ValueError, match=r"^rare@mine has"):
        Mixture([5, 5], [1.0, 1e-4], 0, ["often@mine", "rare@mine"])


def test_rngs_of_different_keys_are_different() -> None:
    first = [generator(*key).integers(2**62) for key in ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2**40), (2**40, 0))]
    assert len(set(first)) == len(first)
    assert generator(3, 4).integers(2**62) == generator(3, 4).integers(2**62)


@given(sources, seeds, st.integers(0, 4 * BLOCK))
@settings(max_examples=10, deadline=None)
def test_computed_counts_equal_drawn_counts(given_: list[tuple[int, float]], seed: int, n: int) -> None:
    mixture = Mixture([s for s, _ in given_], [w for _, w in given_], seed)
    found = Counter(draw.source for draw in draws(mixture, n))
    assert mixture.drawn(n).tolist() == [found[i] for i in range(len(given_))]


@given(st.integers(1, 3000), seeds)
@settings(max_examples=20, deadline=None)
def test_large_sources_are_permuted_without_a_table(size: int, seed: int) -> None:
    keys = _keys(seed, 0, 0)
    assert sorted(_scatter(i, size, keys) for i in range(size)) == list(range(size))


def test_large_sources_are_shuffled_well() -> None:
    """Neighbours are far apart, every tenth of the source is drawn equally often, and epochs differ."""
    size = 10**9
    assert size >= LARGE
    mixture = Mixture([size], [1.0], 3)
    found = np.array([mixture[i].example for i in range(4000)])
    assert len(set(found.tolist())) == 4000
    tenths = np.bincount(found * 10 // size, minlength=10)
    assert ((tenths - 400) ** 2 / 400).sum() < 27.9  # chi-square of 9 degrees at .001
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.06
    assert np.median(np.abs(np.diff(found))) > 0.2 * size
    assert mixture[0].example != mixture[size].example
    assert mixture[size].epoch == 1
