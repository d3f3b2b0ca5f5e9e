"""Keys and values of a decoder between its steps: a slot for each row, with a length of its own.

Slots in use are at the front of tensors ``[slots, heads, length, dim]`` that have room for more, so rows come, go
and are copied while others stay where they are, and only what changes is copied.

Shapes: B rows, M memories (each read by B // M rows after one another), h heads, N positions, L new ones, d head
width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

ROOM = 64  # positions of a text that a new cache has memory for

Pair = tuple[Tensor, Tensor]
Extend = Callable[[Tensor, Tensor], Pair]
"""Takes keys and values of a layer's next positions, ``[B, h, L, d]``; returns all that these may see, ``[B, h, N,
d]``."""


class Places(NamedTuple):
    """Where the next L positions of each row go; afterwards the longest row has ``end``.

    ``rows``: the places in each row ``[B, L]``, or None if they are ``start..end`` in all of them.
    """

    start: int
    end: int
    rows: Tensor | None = None

    def positions(self, device: torch.device) -> Tensor:
        """``[B, L]``, or 1 for B if they are the same in all rows."""
        return torch.arange(self.start, self.end, device=device)[None] if self.rows is None else self.rows

    def bias(self, relative: Callable[[int, int], Tensor]) -> Tensor:
        """Bias for :func:`openpali.model.attention.attend_with_bias`, from that of each distance in a range.

        Per distance if rows are equally long; else per row, query and key, ``[B, h, L, N]``, with -inf for keys
        after the query.
        """
        if self.rows is None:
            return relative(1 - self.end, self.end - 1 - self.start)
        past = F.pad(relative(1 - self.end, 0), (0, 1), value=-math.inf)  # [h, N + 1], the last for any future key
        distance = torch.arange(self.end, device=past.device) - self.rows[..., None]  # [B, L, N]
        return past[:, distance.clamp(max=1) + self.end - 1].transpose(0, 1)


class SlotCache:
    """Slots of every layer, of which the first ``len(lengths)`` are in use.

    Args:
        layers: keys and values of each layer, ``[B, h, N, d]``.
        lengths: positions that each slot has filled, from its first on, ``[B]``, on the CPU.
        shared: others read the tensors, so they stay as they are; else the cache takes them over.
    """

    def __init__(self, layers: Iterable[Pair], lengths: Tensor, shared: bool = False) -> None:
        self._tensors = [tensor for pair in layers for tensor in pair]
        self._shared = shared
        self.lengths = lengths

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def room(self) -> int:
        """Positions that a slot has memory for."""
        return self._tensors[0].shape[2]

    @property
    def device(self) -> torch.device:
        """Where keys and values are."""
        return self._tensors[0].device

    def layer(self, number: int) -> Pair:
        """Keys and values of the slots in use: views, contiguous."""
        keys, values = self._tensors[2 * number : 2 * number + 2]
        return keys[: len(self)], values[: len(self)]

    def layers(self) -> list[Pair]:
        return [self.layer(number) for number in range(len(self._tensors) // 2)]

    def real(self) -> Tensor:
        """Which positions of the slots in use are filled, bool ``[B, N]``."""
        return (torch.arange(self.room) < self.lengths[:, None]).to(self.device)

    def pick(self, rows: Tensor) -> bool:
        """Make slot ``i`` what slot ``rows[i]`` was (on the CPU); whether that changes any."""
        moved = (rows != torch.arange(len(rows))).nonzero()[:, 0]
        changed = bool(len(moved)) or len(rows) != len(self)
        filled = int(self.lengths.max()) if len(self) else 0
        if len(rows) > len(self._tensors[0]) or (self._shared and len(moved)):
            self._tensors, self._shared = [tensor[rows] for tensor in self._tensors], False
        elif len(moved):
            for tensor in self._tensors:
                tensor[moved, :, :filled] = tensor[rows[moved], :, :filled]
        self.lengths = self.lengths[rows]
        return changed

    def append(self, other: SlotCache) -> None:
        """Copy the slots of ``other`` behind those in use; every slot then has room for the longer of both."""
        first, count, filled = len(self), len(self) + len(other), int(other.lengths.max())
        slots = len(self._tensors[0])
        self.reserve(other.room, 0 if count <= slots else max(count, 2 * slots))
        for tensor, more in zip(self._tensors, other._tensors, strict=True):
            tensor[first:count, :, :filled] = more[: len(other), :, :filled]
        self.lengths = torch.cat([self.lengths, other.lengths])

    def reserve(self, room: int, slots: int = 0) -> None:
        """Have memory for so many positions and slots, and own it."""
        for i, old in enumerate(self._tensors):
            shape = max(slots, len(old)), old.shape[1], max(room, old.shape[2]), old.shape[3]
            if self._shared or shape != old.shape:
                self._tensors[i] = old.new_zeros(shape)
                self._tensors[i][: len(self), :, : old.shape[2]] = old[: len(self)]
        self._shared = False

    def write(self, number: int, places: Places, keys: Tensor, values: Tensor) -> Pair:
        """Put the next positions of a layer in their places, as :data:`Extend` says. Keys beyond a row's own length
        are left from earlier: mask or bias hides them."""
        past = self.layer(number)
        for each, new in zip(past, (keys, values), strict=True):
            if places.rows is None:
                each[:, :, places.start : places.end] = new
            else:
                row = torch.arange(len(places.rows), device=places.rows.device)[:, None]
                each[row, :, places.rows] = new.transpose(1, 2)  # [B, L, h, d]
        return past[0][:, :, : places.end], past[1][:, :, : places.end]


class Memories(SlotCache):
    """Keys and values of the encoder, which rows only read. ``share`` = B // M consecutive rows read one slot."""

    share = 1

    def reorder(self, rows: Tensor) -> bool:
        """Let row ``i`` read what row ``rows[i]`` read; whether that changes a slot.

        Rows that follow one another from the same slot go on sharing it, if as many do so everywhere.
        """
        owners = rows // self.share
        kept, counts = torch.unique_consecutive(owners, return_counts=True)
        kept = kept if len(set(counts.tolist())) == 1 else owners
        self.share = len(rows) // len(kept) if len(rows) else 1
        return self.pick(kept)

    def append(self, other: SlotCache) -> None:
        """As :meth:`SlotCache.append`. Where ``other`` shares otherwise, every row gets a slot of its own."""
        assert isinstance(other, Memories)
        if self.share != other.share:
            for each in (self, other):
                each.pick(torch.arange(len(each)).repeat_interleave(each.share))
                each.share = 1
        super().append(other)

    def expand_to_rows(self, tensor: Tensor) -> Tensor:
        """Repeat each slot for the rows that read it: ``[M, ...]`` -> ``[B, ...]``."""
        return tensor if self.share == 1 else tensor.repeat_interleave(self.share, 0)

    def mask(self) -> Tensor | None:
        """Which positions may be seen, bool ``[M, 1, 1, N]``; None: all."""
        return self.real()[:, None, None] if bool((self.lengths < self.room).any()) else None


class Cache:
    """KV cache for continuous batching: rows of different lengths enter with :meth:`append`, and leave or are
    copied with :meth:`reorder`, while others go on.

    Args:
        memories: each layer's keys and values of what the text follows, ``[B, h, N, d]``.
        real_BN: which of it is real, always from the first position on; None: all.
        max_length: most positions of a row's text. Memory for them is taken as they are filled.
    """

    def __init__(self, memories: Iterable[Pair], real_BN: Tensor | None, max_length: int) -> None:
        # each head's in one piece, as every step reads them: at 3,380 tokens that halves its attention
        read = [(keys.contiguous(), values.contiguous()) for keys, values in memories]
        rows, _, n, _ = read[0][0].shape
        # plans count on the meta device, which has no numbers
        lengths = torch.full((rows,), n) if real_BN is None or real_BN.is_meta else real_BN.sum(1).cpu()
        self.memory = Memories(read, lengths)
        room = min(max_length, ROOM)
        empty = [tuple(t.new_zeros(rows, t.shape[1], room, t.shape[3]) for t in pair) for pair in read]
        self.text = SlotCache(empty, torch.zeros(rows, dtype=torch.long))  # type: ignore[arg-type]
        self.max_length = max_length

    def reserve(self, count: int) -> Places:
        """Places for the next ``count`` positions of each row, counted as filled from now on."""
        lengths = self.text.lengths
        start, longest = int(lengths.min()), int(lengths.max())
        end = longest + count
        if end > self.max_length:
            raise ValueError(
                f"a cache for {self.max_length} tokens was given {end}: start it with a larger max_length"
            )
        if end > (room := self.text.room):
            self.text.reserve(min(self.max_length, max(end, 2 * room)))
        rows = None
        if start < longest:
            rows = (lengths[:, None] + torch.arange(count)).to(self.text.device)
        self.text.lengths = lengths + count
        return Places(start, end, rows)

    def extends(self, places: Places, *, merged: bool = False) -> list[Extend]:
        """Of each layer, what writes the text in these places, and returns that so far.

        Args:
            merged: the layers see the memory, and the text behind it, in one attention.
        """

        def extend(number: int, keys: Tensor, values: Tensor) -> Pair:
            text = self.text.write(number, places, keys, values)
            if not merged:
                return text
            before, seen = self.memory.layer(number)
            return concatenate((self.memory.expand_to_rows(before), self.memory.expand_to_rows(seen)), text)

        return [partial(extend, number) for number in range(len(self.text.layers()))]

    def reorder(self, rows: Tensor) -> None:
        """Make row ``i`` continue what row ``rows[i]`` was (beam search, or dropping finished rows)."""
        rows = rows.cpu()
        self.memory.reorder(rows)
        self.text.pick(rows)

    def append(self, other: Cache) -> None:
        """Take over the rows of ``other``, behind its own."""
        self.max_length = max(self.max_length, other.max_length)
        if not len(self.text):
            self.memory, self.text = other.memory, other.text
        elif len(other.text):
            self.memory.append(other.memory)
            self.text.append(other.text)


def split_pairs(tensors: Sequence[Tensor]) -> tuple[list[Pair], list[Pair]]:
    """Keys and values in turn, of each layer's memory and then of each layer's past -> both as pairs."""
    pairs = list(zip(tensors[::2], tensors[1::2], strict=True))
    return pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :]


class Extending:
    """What a decoder calls in each layer of a traced step: puts the next positions behind the past.

    Args:
        pasts: of each layer.
        rows: of the past that each row continues; None: its own.

    Attributes:
        extended: keys and values so far, in turn.
    """

    def __init__(self, pasts: Sequence[Pair], rows: Tensor | None = None) -> None:
        self.pasts, self.rows = pasts, rows
        self.extended: list[Tensor] = []

    def __call__(self, keys: Tensor, values: Tensor) -> Pair:
        first, second = self.pasts[len(self.extended) // 2]
        if self.rows is not None:
            first, second = first.index_select(0, self.rows), second.index_select(0, self.rows)
        pair = concatenate((first, second), (keys, values))
        self.extended += pair
        return pair


def concatenate(first: Pair, second: Pair) -> Pair:
    """Keys and values one after another, ``[B, h, N + L, d]``."""
    return torch.cat([first[0], second[0]], dim=2), torch.cat([first[1], second[1]], dim=2)
