"""Mixtures whose order is a pure function of (seed, counter), which makes runs resumable and elastic.

The n-th example of a run is fixed before the run starts, whatever the number of ranks or workers; the only state to
save is one integer. Rates are exact: every block of ``BLOCK`` consecutive draws holds each source's share, rounded
to whole draws, in an order shuffled by the seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from openpali.rng import generator

BLOCK = 1024  # draws over which the rates are exact
LARGE = 2**20  # a source of at least this size is shuffled without a table of its examples
ENDLESS = 2**32  # a source of at least this size generates its examples: read in order, from a random start


class Draw(NamedTuple):
    """The source, the example in it, and how many epochs of the source were completed before."""

    source: int
    example: int
    epoch: int


class Mixture:
    """Interleaves sources at exact rates.

    Args:
        sizes: number of examples of each source.
        weights: relative rates, any positive numbers.
        seed: determines the order.
        names: of the sources, for messages.
    """

    def __init__(
        self, sizes: Sequence[int], weights: Sequence[float], seed: int, names: Sequence[str] = ()
    ) -> None:
        if len(sizes) != len(weights) or not sizes:
            raise ValueError(f"a mixture needs one weight per source: {len(sizes)} sources, {len(weights)} weights")
        if min(sizes) < 1 or not all(np.isfinite(w) and w > 0 for w in weights):
            raise ValueError("every source of a mixture needs examples and a positive weight")
        self.sizes, self.seed = tuple(sizes), seed
        self._orders: dict[int, tuple[int, NDArray[np.int64]]] = {}  # source -> its last epoch, and the order in it
        self.counts = _apportion(np.asarray(weights, dtype=np.float64))
        if 0 in self.counts:
            least = int(np.argmin(self.counts))
            name = names[least] if names else f"source {least}"
            raise ValueError(f"{name} has less than 1/{BLOCK} of the mixture: raise its weight or remove it")

    def __getitem__(self, counter: int) -> Draw:
        """The draw at position ``counter`` >= 0 of the global order."""
        block, within = divmod(counter, BLOCK)
        order, rank = _block(self.counts, self.seed, block)
        source = int(order[within])
        drawn = block * self.counts[source] + int(rank[within])
        epoch, position = divmod(drawn, self.sizes[source])
        size = self.sizes[source]
        if size >= ENDLESS:  # or all runs, phases and tasks would see the same first examples
            return Draw(source, (position + _start(size, self.seed, source)) % size, epoch)
        if size >= LARGE:
            return Draw(source, _scatter(position, size, _keys(self.seed, source, epoch)), epoch)
        return Draw(source, int(self._order(source, epoch)[position]), epoch)

    def _order(self, source: int, epoch: int) -> NDArray[np.int64]:
        kept = self._orders.get(source)
        if kept is None or kept[0] != epoch:
            kept = epoch, generator(self.seed, 1, source, epoch).permutation(self.sizes[source])
            self._orders[source] = kept
        return kept[1]

    def drawn(self, counter: int) -> NDArray[np.int64]:
        """Number of draws from each source among the first ``counter``, int64 [sources]."""
        block, within = divmod(counter, BLOCK)
        begun = np.bincount(_block(self.counts, self.seed, block)[0][:within], minlength=len(self.counts))
        return block * np.array(self.counts, np.int64) + begun


def _apportion(weights: NDArray[np.float64]) -> tuple[int, ...]:
    """Integer draws per block, by the largest-remainder method."""
    exact = weights / weights.sum() * BLOCK
    counts = np.floor(exact).astype(int)
    missing = BLOCK - counts.sum()
    counts[np.argsort(counts - exact, kind="stable")[:missing]] += 1
    return tuple(int(c) for c in counts)


@lru_cache(maxsize=16)
def _block(counts: tuple[int, ...], seed: int, block: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Source of each draw of a block, and the number of draws from the same source before it in the block."""
    order = generator(seed, 0, block).permutation(np.repeat(np.arange(len(counts)), counts))
    rank = np.empty(BLOCK, dtype=np.int64)
    for source, count in enumerate(counts):
        rank[order == source] = np.arange(count)
    return order, rank


@lru_cache(maxsize=BLOCK)  # a mixture has no more sources
def _start(size: int, seed: int, source: int) -> int:
    return int(generator(seed, 1, source).integers(size))


@lru_cache(maxsize=BLOCK)  # a mixture has no more sources
def _keys(seed: int, source: int, epoch: int) -> tuple[int, ...]:
    return tuple(int(key) for key in generator(seed, 1, source, epoch).integers(2**64, size=6, dtype=np.uint64))


def _scatter(position: int, size: int, keys: tuple[int, ...]) -> int:
    """The image of ``position`` under a pseudo-random permutation of ``range(size)``.

    A Feistel network over the next power of four, iterated until the result is in range (Black and Rogaway 2002,
    "Ciphers with arbitrary finite domains"). It needs no memory; a table for 1e9 examples takes 8 GB per worker.
    """
    half = ((size - 1).bit_length() + 1) // 2
    mask = 2**half - 1
    while True:
        left, right = position >> half, position & mask
        for key in keys:
            left, right = right, left ^ (_mix(right ^ key) & mask)
        position = left << half | right
        if position < size:
            return position


def _mix(value: int) -> int:
    """The finaliser of splitmix64 (Steele et al. 2014)."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    return value ^ value >> 31
