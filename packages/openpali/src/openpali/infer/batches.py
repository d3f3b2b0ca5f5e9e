"""The order in which many samples are asked: windows of the input, sorted by length within.

A batch is the same whichever process runs it and whatever is answered already, and holds little padding.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

WINDOW = 4  # batches; samples are sorted by length within each window


def windows(n: int, batch: int) -> list[range]:
    """The indices of ``n`` samples, ``WINDOW`` batches at a time."""
    return [range(start, min(start + WINDOW * batch, n)) for start in range(0, n, WINDOW * batch)]


def cut(window: Sequence[T], batch: int, length: Callable[[T], tuple[int, int]]) -> list[Sequence[T]]:
    """The samples of a window in batches, sorted by ``length``: frames, then characters of the prompt."""
    ordered = sorted(window, key=length)
    return list(chunked(ordered, batch))


def chunked(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The rows, ``size`` at a time; the last may be fewer."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def group(keys: Sequence[K]) -> dict[K, list[int]]:
    """The indices at which each key stands."""
    found: dict[K, list[int]] = {}
    for i, key in enumerate(keys):
        found.setdefault(key, []).append(i)
    return found
