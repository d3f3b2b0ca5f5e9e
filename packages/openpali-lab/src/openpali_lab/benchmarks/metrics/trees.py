"""Edit distance of ordered trees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple


class Place(NamedTuple):
    """A node of a tree that is listed children first.

    Attributes:
        label: what the node is.
        first: place of the first node below it, or of itself.
    """

    label: Any
    first: int


def tree_distance(one: Sequence[Place], other: Sequence[Place], change: Callable[[Any, Any], float]) -> float:
    """The least cost of making a tree the other (Zhang and Shasha, SIAM Journal on Computing 18, 1989).

    Args:
        change: cost of one label in the place of another; a node that is inserted or removed costs 1.
    """
    trees = [[0.0] * len(other) for _ in one]
    for i, j in product(_key_roots(one), _key_roots(other)):
        top, left = one[i].first, other[j].first
        # To begin with, each is compared with nothing; only the first row and column count.
        forests: list[list[float]] = [[*range(x, x + j - left + 2)] for x in range(i - top + 2)]
        for x in range(top, i + 1):
            for y in range(left, j + 1):
                above, before = one[x].first - top, other[y].first - left
                whole = not above and not before
                if whole:
                    changed = forests[x - top][y - left] + change(one[x].label, other[y].label)
                else:
                    changed = forests[above][before] + trees[x][y]
                removed, inserted = forests[x - top][y - left + 1] + 1, forests[x - top + 1][y - left] + 1
                forests[x - top + 1][y - left + 1] = least = min(changed, removed, inserted)
                if whole:
                    trees[x][y] = least
    return trees[-1][-1]


def _key_roots(places: Sequence[Place]) -> list[int]:
    """The last of the nodes with the same first one below."""
    return sorted({place.first: i for i, place in enumerate(places)}.values())
