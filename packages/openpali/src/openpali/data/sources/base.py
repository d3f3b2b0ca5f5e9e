"""What every source of examples offers."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from openpali.tasks.example import Example


class Source(Protocol):
    """Examples by index. The same index always gives the same example."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...


def spread(count: int, most: int | None) -> list[int]:
    """At most ``most`` of the numbers below ``count``, evenly spaced from the first to the last."""
    if most is None or most >= count:
        return list(range(count))
    return [int(number) for number in np.linspace(0, count - 1, most)]
