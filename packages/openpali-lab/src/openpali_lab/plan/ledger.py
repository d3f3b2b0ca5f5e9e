"""Accounts for a training step that runs on fake tensors: memory at its peak by kind, FLOPs, bytes sent.

The operators are those that the real model, loss, checkpointing, sharding and optimizer call; with torch's fake
tensors their results have shapes and no contents. All is observed through torch's dispatch and function modes.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.distributed.tensor import DTensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from openpali.model.attention import PLAIN, Scoring, eager
from openpali_lab.plan.flops import flops_of

KINDS = ("weights", "gradients", "optimizer", "activations", "logits", "communication")

_aten, _c10d = torch.ops.aten, torch.ops.c10d


class _Memory(NamedTuple):
    """A storage that is alive: its bytes as last seen, and what they count as."""

    size: int
    kind: str
    storage: weakref.ref[torch.UntypedStorage]


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Accounts for all operators that run under it and :func:`simulated`.

    Args:
        node: ranks per node.
        rows: the value of integers that depend on data: ranks send each other their number of rows.

    Attributes:
        kind: what new tensors count as, one of :data:`KINDS`, unless their shape or operator says otherwise.
        backward: whether this is a backward pass, in which matrices shaped like weights are gradients.
        peak: bytes of each kind at the time of most bytes since :meth:`reset`.
        flops: of matmuls since :meth:`reset`.
        sent: bytes that this rank has sent since :meth:`reset`, within its node and over the network.
    """

    def __init__(self, node: int, rows: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.node, self.rows = node, rows
        self.kind = "weights"
        self.backward = False
        self.matrices: set[tuple[int, ...]] = set()  # shapes of unsharded weights
        self.columns: set[int] = set()  # widths of logits
        self.alive: dict[int, _Memory] = {}
        self.refilled: set[int] = set()  # storages that FSDP has resized and not yet freed
        self.totals = dict.fromkeys(KINDS, 0)
        self.reset()

    def reset(self) -> None:
        """Count peak, FLOPs and bytes sent from here on."""
        self._follow_resizes(list(self.alive))
        self.peak = dict(self.totals)
        self.highest = sum(self.totals.values())
        self.flops = 0.0
        self.sent = {"node": 0.0, "network": 0.0}

    def label(self, tensor: Tensor, kind: str) -> None:
        """Count a tensor's memory as ``kind``."""
        key = tensor.untyped_storage()._cdata
        if key in self.alive:
            memory = self.alive[key]
            self.alive[key] = memory._replace(kind=kind)
            self.totals[memory.kind] -= memory.size
            self.totals[kind] += memory.size

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if any(issubclass(t, DTensor) for t in types):
            return NotImplemented  # the operator on local tensors follows
        if func is torch.ops.prim.device.default:  # two of three calls
            return args[0].fake_device
        kwargs = kwargs or {}
        used = [t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        self._follow_resizes([*self.refilled, *used])
        if func is _aten._local_scalar_dense.default and isinstance(args[0], FakeTensor):
            return 1.0 if args[0].is_floating_point() else self.rows
        known = _DATA_DEPENDENT.get(func._overloadpacket)
        out = known(args) if known else None
        if out is None:
            out = func(*args, **kwargs)
            self.flops += flops_of(func, args, kwargs, out)
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._note(tensor, func)
        if func.namespace == "c10d":
            self._send(func._overloadpacket, args)
        return out

    def _note(self, tensor: Tensor, func: Any) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.alive:
            self._remember(key, _Memory(storage.nbytes(), self._kind_of(tensor, func), weakref.ref(storage)))
            weakref.finalize(storage, self._forget, key)

    def _follow_resizes(self, keys: Collection[int]) -> None:
        """Notice that storages have been resized, for which no operator is dispatched.

        FSDP does so to free and to refill the buffers of gathered weights. It passes refilled ones to an operator,
        so it is enough to look at arguments, and at buffers that have been refilled before.
        """
        for key in keys:
            memory = self.alive.get(key)
            storage = memory.storage() if memory else None
            if memory and storage is not None and (size := storage.nbytes()) != memory.size:
                self._forget(key)
                self._remember(key, _Memory(size, "communication", memory.storage))
                if size:
                    self.refilled.add(key)

    def _kind_of(self, tensor: Tensor, func: Any) -> str:
        if self.kind != "activations" or tensor.ndim != 2:
            return self.kind
        if tensor.shape[1] in self.columns and tuple(tensor.shape) not in self.matrices:
            return "logits"
        if tuple(tensor.shape) in self.matrices:  # a copy of a weight in autocast's precision, or a gradient
            copied = func is _aten._to_copy.default and tensor.dtype != torch.float32 and not self.backward
            return "weights" if copied else "gradients"
        return self.kind

    def _remember(self, key: int, memory: _Memory) -> None:
        self.alive[key] = memory
        self.totals[memory.kind] += memory.size
        if (now := sum(self.totals.values())) > self.highest:
            self.highest, self.peak = now, dict(self.totals)

    def _forget(self, key: int) -> None:
        memory = self.alive.pop(key)
        self.refilled.discard(key)
        self.totals[memory.kind] -= memory.size

    def _send(self, operator: Any, args: tuple[Any, ...]) -> None:
        tensors = [t for t in tree_leaves(args) if isinstance(t, Tensor)]
        groups = [a for a in tree_leaves(args) if isinstance(a, torch.ScriptObject)]
        ranks = next((r for r in map(_ranks_of, groups) if r), [0])
        share = 1 - 1 / len(ranks)  # a ring sends all but the rank's own part
        size = tensors[0].nbytes if tensors else 0
        if operator == _c10d._reduce_scatter_base_:
            self.label(tensors[0], "gradients")
            self.label(tensors[1], "communication")
            size = tensors[1].nbytes
        elif operator == _c10d._allgather_base_:
            self.label(tensors[0], "communication")
        elif operator == _c10d.allreduce_:
            size = 2 * sum(t.nbytes for t in tensors)
        elif operator == _c10d.allgather_:  # each tensor is the part of one rank
            size = len(ranks) * tensors[0].nbytes
        elif operator == _c10d.send:
            share = 1
        else:
            return
        within = max(ranks) - min(ranks) < self.node
        self.sent["node" if within else "network"] += share * size


def _ranks_of(group: Any) -> list[int]:
    try:
        return dist.get_process_group_ranks(dist.ProcessGroup.unbox(group))
    except (RuntimeError, ValueError, KeyError):  # the options of the operator, not a group
        return []


_DATA_DEPENDENT: dict[Any, Callable[[tuple[Any, ...]], Any]] = {
    _aten._unique2: lambda args: tuple(args[0].new_empty(n) for n in (args[0].numel(), 0, 0)),
    _aten.equal: lambda args: True,
}
"""Operators whose result depends on data, and the result that is assumed."""


def fused_attention(q: Tensor, k: Tensor, v: Tensor, how: Scoring = PLAIN) -> Tensor:
    """The attention backend of a GPU (see `model/attention.py`): torch's memory-efficient kernel, if it can."""
    if how.cap is not None:
        return eager(q, k, v, how)
    bias = how.fused
    if torch.is_autocast_enabled("cpu"):
        q, k, v = (t.to(torch.bfloat16) for t in (q, k, v))
        bias = bias if bias is None else bias.to(torch.bfloat16)
    if bias is not None:
        bias = bias.expand(*q.shape[:-1], k.shape[-2])
    out: Tensor = _aten._scaled_dot_product_efficient_attention(
        q, k, v, bias, torch.is_grad_enabled(), 0.0, False, scale=how.scale
    )[0]
    return out


class _WideNorms(TorchFunctionMode):
    """Computes layer norms under autocast in float32, as GPUs do."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.layer_norm and torch.is_autocast_enabled("cpu"):
            args = (args[0].float(), *args[1:])
        return func(*args, **(kwargs or {}))


@contextmanager
def simulated(ledger: Ledger, *, cuda: bool, world: int) -> Iterator[None]:
    """Make new tensors fake, add ``world - 1`` fake ranks, and let ``ledger`` account for what runs.

    Args:
        ledger: to use.
        cuda: whether autocast treats norms as on a GPU; tensors are on the CPU either way. To recompute norms in
            the backward pass too, call ``torch.autograd.backward``: ``Tensor.backward`` suspends function modes.
        world: number of ranks.
    """
    if dist.is_initialized():
        raise RuntimeError("a plan needs a process of its own: run it without torchrun")
    with ExitStack() as stack:
        if world > 1:
            from torch.testing._internal.distributed.fake_pg import FakeStore

            dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=world)
            stack.callback(dist.destroy_process_group)
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        if cuda:
            stack.enter_context(_WideNorms())
        stack.enter_context(ledger)
        yield


def shapes_of(tensors: Collection[Tensor]) -> set[tuple[int, ...]]:
    """The shapes of all matrices among ``tensors``, and of their transposes."""
    matrices = [tuple(t.shape) for t in tensors if t.ndim == 2]
    return {*matrices, *(shape[::-1] for shape in matrices)}
