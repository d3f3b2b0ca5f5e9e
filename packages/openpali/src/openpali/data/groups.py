"""Groups of what pairs connect."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def connected(count: int, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Connected components of nodes ``0 .. count - 1`` under the edges ``pairs``, each sorted, by their first."""
    from scipy.sparse import coo_array  # takes a while to import
    from scipy.sparse.csgraph import connected_components

    if not count:
        return []
    ends = np.array(pairs, np.int64).reshape(-1, 2).T
    labels = connected_components(
        coo_array((np.ones(len(pairs)), (ends[0], ends[1])), (count, count)), directed=False
    )[1]
    order = np.argsort(labels, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    return sorted((group.tolist() for group in groups), key=lambda group: group[0])
