"""Several processes that act as one: the collectives that training and evaluation need."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Message = TypeVar("Message", bound=DataclassInstance)


T = TypeVar("T")
GATHER_TIMEOUT = timedelta(days=7)  # others wait so long while rank 0 embeds a whole data set


@dataclass(frozen=True)
class Ranks:
    """This process, ``rank`` of ``world``, and its collectives: every rank must call them, in the same order.

    Sums have torch's timeout (10 minutes for NCCL, 30 for gloo), so that a rank that hangs in a step ends the run.
    :meth:`gather` waits for :data:`GATHER_TIMEOUT`, since one rank may have long work of its own to do before it.
    """

    rank: int
    world: int
    device: torch.device
    # a process group (gloo) of its own, so that checkpoints are written while training goes on
    background: dist.ProcessGroup | None = None
    patient: dist.ProcessGroup | None = None  # the process group (gloo) of gather; None: the default one

    def sum(self, value: float) -> float:
        """The sum of ``value`` over all ranks."""
        return self.sums([value])[0]

    def sums(self, values: Sequence[float]) -> list[float]:
        """The sum of each of ``values`` over all ranks, in one collective."""
        if self.world == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)  # on the CPU, so that no GPU kernel is waited for
        dist.all_reduce(tensor)
        summed: list[float] = tensor.tolist()
        return summed

    def sum_message(self, message: Message) -> Message:
        """Sum a dataclass over all ranks, field by field, in one collective.

        Each field is a number, or a list of numbers that has the same length on all ranks; all come back as floats.
        """
        fields = {field.name: getattr(message, field.name) for field in dataclasses.fields(message)}
        flat = [float(n) for value in fields.values() for n in (value if isinstance(value, list) else [value])]
        summed = iter(self.sums(flat))
        totals = {
            name: [next(summed) for _ in value] if isinstance(value, list) else next(summed)
            for name, value in fields.items()
        }
        return dataclasses.replace(message, **totals)

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum the gradients of unsharded parameters over all ranks, in place, in one collective."""
        if self.world == 1 or not parameters:
            return
        flat = torch.cat([_gradient(p).flatten() for p in parameters])
        dist.all_reduce(flat)
        for p, summed in zip(parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True):
            _gradient(p).copy_(summed.view_as(p))

    def gather(self, value: T) -> list[T]:
        """The value of each rank, in rank order. Values are pickled: keep them small."""
        if self.world == 1:
            return [value]
        values: list[T] = [value] * self.world
        dist.all_gather_object(values, value, group=self.patient)
        return values

    def wait(self) -> None:
        """Wait until every rank is here."""
        self.gather(None)

    @property
    def per_node(self) -> int:
        """How many ranks this node has."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", self.world))

    def mesh(self, kind: Literal["full", "hybrid"]) -> DeviceMesh:
        """The device mesh for sharding: all ranks ("full"), or nodes x ranks per node ("hybrid")."""
        if kind == "full":
            return init_device_mesh(self.device.type, (self.world,), mesh_dim_names=("shard",))
        if self.world % self.per_node:
            raise ValueError(
                f"parallel.shard = hybrid needs the same number of ranks on each node, and {self.world} ranks are "
                f'not divisible by {self.per_node} per node: use parallel.shard = "full"'
            )
        shape = (self.world // self.per_node, self.per_node)
        return init_device_mesh(self.device.type, shape, mesh_dim_names=("copy", "shard"))


ALONE = Ranks(0, 1, torch.device("cpu"))
"""One process by itself, on the CPU."""


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """Join the process group if torchrun started this process; otherwise be the only rank."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if world == 1:
        yield Ranks(0, 1, device)
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", **_rendezvous())
    background, patient = dist.new_group(backend="gloo"), dist.new_group(backend="gloo", timeout=GATHER_TIMEOUT)
    try:
        yield Ranks(dist.get_rank(), world, device, background, patient)
    finally:
        dist.destroy_process_group()


def _rendezvous() -> dict[str, Any]:
    """Arguments of ``init_process_group`` that give each restart under torchrun a store prefix of its own.

    torchrun keeps one store over its restarts, in which ranks would find the addresses of dead ranks (pytorch issue
    135712). Each node counts its own restarts, so this is done on a single node only; docs/training.md says what to
    do on several.
    """
    env = os.environ
    if env.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or env.get("GROUP_WORLD_SIZE") != "1":
        return {}
    store = dist.TCPStore(env["MASTER_ADDR"], int(env["MASTER_PORT"]), is_master=False)  # type: ignore[attr-defined]
    attempt = dist.PrefixStore(f"attempt-{env['TORCHELASTIC_RESTART_COUNT']}", store)  # type: ignore[attr-defined]
    return {"store": attempt, "rank": int(env["RANK"]), "world_size": int(env["WORLD_SIZE"])}


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
