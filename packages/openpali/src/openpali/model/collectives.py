"""Collectives on tensors: every rank must call them, in the same order. Alone, they do nothing.

:mod:`openpali.distributed` joins the ranks, and has what training and evaluation exchange besides: numbers, objects
and gradients.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def world_and_rank() -> tuple[int, int]:
    """How many ranks there are, and which this is."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size(), dist.get_rank()
    return 1, 0


def sum_over_ranks(*tensors: Tensor, group: dist.ProcessGroup | None = None) -> None:
    """Sum each tensor over the ranks of a group, by default over all, in place."""
    if world_and_rank()[0] > 1:
        for tensor in tensors:
            dist.all_reduce(tensor, group=group)


def copy_from_first(tensor: Tensor) -> None:
    """Give all ranks the values of rank 0, in place."""
    if world_and_rank()[0] > 1:
        dist.broadcast(tensor, 0)


def gather_sizes(size: int) -> list[int]:
    """The size of each rank, sent from CPU to CPU (the process group needs gloo): no GPU kernel is waited for."""
    world, _ = world_and_rank()
    if world == 1:
        return [size]
    sizes = [torch.zeros(1, dtype=torch.long) for _ in range(world)]
    dist.all_gather(sizes, torch.tensor([size]))
    return [int(each) for each in sizes]


def gather_rows(rows: Tensor, sizes: list[int]) -> Tensor:
    """The rows ``[n, ...]`` of all ranks, one after the other, by how many each has (:func:`gather_sizes`)."""
    if len(sizes) == 1:
        return rows
    largest = max(sizes)
    own = F.pad(rows, (0, 0) * (rows.ndim - 1) + (0, largest - len(rows))).contiguous()
    parts = [torch.empty_like(own) for _ in sizes]
    dist.all_gather([part.view(torch.uint8) for part in parts], own.view(torch.uint8))  # gloo has no bf16
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def gather_with_gradient(rows: Tensor, sizes: list[int]) -> Tensor:
    """:func:`gather_rows`, whose gradients are summed over ranks in the backward pass, which is collective, too."""
    return cast(Tensor, _GatherRows.apply(rows, sizes))  # type: ignore[no-untyped-call]


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        return gather_rows(rows, sizes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        grad = grad.contiguous()
        sum_over_ranks(grad)
        return torch.split(grad, ctx.sizes)[world_and_rank()[1]], None


def pass_on(rows: Tensor, size: int) -> Tensor:
    """Send rows ``[n, ...]`` to the next rank of a ring; receive ``size`` rows from the previous one."""
    world, rank = world_and_rank()
    if world == 1:
        return rows
    incoming = rows.new_empty(size, *rows.shape[1:])
    operations = [
        dist.P2POp(dist.isend, rows, (rank + 1) % world),
        dist.P2POp(dist.irecv, incoming, (rank - 1) % world),
    ]
    for work in dist.batch_isend_irecv(operations):
        work.wait()
    return incoming
