"""Rows at the front of a buffer: they come, go and are copied, while the others stay where they are.

What a step of many requests costs must not depend on how many of them come and go, so only rows that change are
copied.

Shapes: R rows with room, B rows in use, h heads, N positions, d head width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class RowBuffer:
    """Rows ``[B, h, N, d]``, with room for more.

    Args:
        rows: the first rows.
        shared: others read the tensor, so it stays as it is; else the buffer takes it over.
    """

    def __init__(self, rows: Tensor, shared: bool = False) -> None:
        self._room = rows
        self._count = len(rows)
        self._shared = shared

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> Tensor:
        """The rows in use, ``[B, h, N, d]``: a view, contiguous."""
        return self._room[: self._count]

    @property
    def length(self) -> int:
        """Positions that a row has room for."""
        return self._room.shape[2]

    def pick(self, rows: Tensor, filled: int | None = None) -> None:
        """Make row ``i`` what row ``rows[i]`` was, in its first ``filled`` positions; ``rows`` is on the CPU."""
        moved = (rows != torch.arange(len(rows))).nonzero()[:, 0]
        if len(rows) > len(self._room) or (self._shared and len(moved)):
            self._room, self._shared = self._room[rows], False
        elif len(moved):
            self._room[moved, :, :filled] = self._room[rows[moved], :, :filled]
        self._count = len(rows)

    def move(self, room: Tensor) -> None:
        """Keep the rows at the front of ``room`` ``[R, h, N, d]``, which is no smaller."""
        room[: self._count, :, : self.length] = self.rows
        self._room, self._shared = room, False

    def is_in(self, room: Tensor) -> bool:
        """Whether the rows are in this very tensor."""
        return self._room is room

    def lengthen(self, length: int) -> None:
        """Make room for ``length`` positions of each row."""
        self.move(self._room.new_zeros(*self._room.shape[:2], length, self._room.shape[3]))

    def append(self, rows: Tensor, length: int) -> None:
        """Add rows ``[B, h, n, d]`` behind the others; every row has room for ``length`` positions or more then.

        Positions of the new rows from ``n`` on keep what rows before them left there.
        """
        count, length = self._count + len(rows), max(length, self.length)
        if self._shared or count > len(self._room) or length > self.length:
            size = len(self._room) if count <= len(self._room) else max(count, 2 * len(self._room))
            self.move(self._room.new_zeros(size, self._room.shape[1], length, self._room.shape[3]))
        self._room[self._count : count, :, : rows.shape[2]] = rows
        self._count = count


def shared_memory(owners: Tensor) -> Tensor:
    """Which memories to keep, ``[M]``, for rows that came from memories ``owners`` ``[B]``.

    One for each run of B // M equal owners where the runs are of one length, else one for each row.
    """
    kept, counts = torch.unique_consecutive(owners, return_counts=True)
    return kept if len(set(counts.tolist())) == 1 else owners


def append_masks(
    first: Tensor | None, second: Tensor | None, counts: tuple[int, int], lengths: tuple[int, int]
) -> Tensor | None:
    """The masks of two groups of memories as one, bool ``[M, 1, 1, N]``; None: all positions are real."""
    if first is None and second is None and lengths[0] == lengths[1]:
        return None
    device = next((mask.device for mask in (first, second) if mask is not None), torch.device("cpu"))
    masks = []
    for mask, count, length in zip((first, second), counts, lengths, strict=True):
        if mask is None:
            mask = torch.ones(count, 1, 1, length, dtype=torch.bool, device=device)
        masks.append(F.pad(mask, (0, max(lengths) - mask.shape[3])))
    return torch.cat(masks)
