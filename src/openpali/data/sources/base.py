"""What every source of examples offers."""

from __future__ import annotations

from typing import Protocol

from openpali.tasks.example import Example


class Source(Protocol):
    """Examples by index. The same index always gives the same example."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...
