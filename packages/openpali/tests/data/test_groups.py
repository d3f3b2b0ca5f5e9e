"""Groups that pairs connect, beside a union-find."""

from __future__ import annotations

import numpy as np
import pytest

from openpali.data.groups import connected


@pytest.mark.parametrize("count", [0, 1, 7, 60])
def test_groups_are_those_of_a_union_find(count: int) -> None:
    rng = np.random.default_rng(count)
    pairs = [(int(a), int(b)) for a, b in rng.integers(0, count, (count // 2, 2))] if count else []
    of = [{number} for number in range(count)]
    for one, other in pairs:
        for number in (both := of[one] | of[other]):
            of[number] = both
    assert connected(count, pairs) == [sorted(group) for n, group in enumerate(of) if min(group) == n]


def test_numbers_without_pairs_are_alone() -> None:
    assert connected(3, []) == [[0], [1], [2]]
    assert connected(4, [(3, 1), (1, 1)]) == [[0], [1, 3], [2]]
