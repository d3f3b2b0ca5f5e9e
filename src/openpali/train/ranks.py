"""Several processes as one: what the trainer needs of torch.distributed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Ranks:
    """This process among all: ``rank`` of ``world``."""

    rank: int
    world: int
    device: torch.device

    def sum(self, value: float) -> float:
        """The sum of ``value`` over all ranks."""
        if self.world == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return float(tensor)

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up the gradients of all ranks, in one message. A missing gradient is zero, on one rank as on many:
        a step without pictures must do the same to the ViT on both."""
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        if self.world == 1:
            return
        flat = torch.cat([_gradient(p).flatten() for p in parameters])
        dist.all_reduce(flat)
        for p, summed in zip(parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True):
            _gradient(p).copy_(summed.view_as(p))

    def gather(self, value: object) -> list[object]:
        """What each rank gave, in rank order."""
        if self.world == 1:
            return [value]
        values: list[object] = [None] * self.world
        dist.all_gather_object(values, value)
        return values


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """Join the other processes if torchrun started this one, else be alone."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if world == 1:
        yield Ranks(0, 1, device)
        return
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Ranks(dist.get_rank(), world, device)
    finally:
        dist.destroy_process_group()


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
