"""Several processes as one: what the trainer needs of torch.distributed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh


@dataclass(frozen=True)
class Ranks:
    """This process among all: ``rank`` of ``world``. ``background`` is a group for what happens beside training."""

    rank: int
    world: int
    device: torch.device
    background: dist.ProcessGroup | None = None

    def sum(self, value: float) -> float:
        """The sum of ``value`` over all ranks."""
        return self.sums([value])[0]

    def sums(self, values: Sequence[float]) -> list[float]:
        """The sum of each of ``values`` over all ranks, in one message."""
        if self.world == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)  # on the CPU: waits for no kernel
        dist.all_reduce(tensor)
        summed: list[float] = tensor.tolist()
        return summed

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up the gradients of whole parameters over all ranks, in one message."""
        if self.world == 1 or not parameters:
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

    def mesh(self, kind: Literal["full", "hybrid"]) -> DeviceMesh:
        """The ranks among which a model is cut ("full": all), or nodes x ranks of a node ("hybrid")."""
        if kind == "full":
            return init_device_mesh(self.device.type, (self.world,), mesh_dim_names=("shard",))
        local = int(os.environ.get("LOCAL_WORLD_SIZE", self.world))
        if self.world % local:
            raise ValueError(f"parallel.shard = hybrid needs as many ranks on each node: {self.world} by {local}")
        shape = (self.world // local, local)
        return init_device_mesh(self.device.type, shape, mesh_dim_names=("copy", "shard"))


@contextmanager
def join_ranks(patience: timedelta | None = None) -> Iterator[Ranks]:
    """Join the other processes if torchrun started this one, else be alone.

    Args:
        patience: how long a process waits for the others before it gives up; by default, torch's ten to thirty
            minutes.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if world == 1:
        yield Ranks(0, 1, device)
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=patience, **_meeting_point())
    try:
        yield Ranks(dist.get_rank(), world, device, dist.new_group(backend="gloo", timeout=patience))
    finally:
        dist.destroy_process_group()


def _meeting_point() -> dict[str, Any]:
    """Where ranks find each other, if torch's own place will not do: torchrun keeps one store over its restarts, in
    which ranks would find the addresses of those that died (pytorch issue 135712). Nodes count their restarts each
    for itself, so that this is for one node; for several see docs/training.md."""
    env = os.environ
    if env.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or env.get("GROUP_WORLD_SIZE") != "1":
        return {}
    store = dist.TCPStore(env["MASTER_ADDR"], int(env["MASTER_PORT"]), is_master=False)  # type: ignore[attr-defined]
    attempt = dist.PrefixStore(f"attempt-{env['TORCHELASTIC_RESTART_COUNT']}", store)  # type: ignore[attr-defined]
    return {"store": attempt, "rank": int(env["RANK"]), "world_size": int(env["WORLD_SIZE"])}


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
