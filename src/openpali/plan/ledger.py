"""A run without its numbers: a step is carried out on tensors that hold nothing, and its books are kept.

Operators are the real ones, called by the real model, loss, checkpointing, sharding and optimizer; only their
results are imagined (torch's fake tensors). What is counted: bytes alive, by kind, where they are at their peak;
FLOPs; bytes sent to other ranks.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial, partialmethod
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from openpali.train.machine import flops_of, replaced

KINDS = ("weights", "gradients", "optimizer", "activations", "logits", "communication")

_aten, _c10d = torch.ops.aten, torch.ops.c10d


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the books of everything that is done under it and :func:`imagined`.

    Attributes:
        kind: what a new tensor counts as, unless its shape or its operator says more; one of :data:`KINDS`.
        peak: bytes of each kind at the moment when most bytes were alive since :meth:`open`.
        flops: since then; of matrix products.
        sent: since then; bytes that this rank sends, by whether the group lies within a node.
        rows: what an integer that depends on data is taken for: ranks tell each other their number of rows.
    """

    def __init__(self, node: int, rows: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.node, self.rows = node, rows
        self.kind = "weights"
        self.backward = False
        self.matrices: set[tuple[int, ...]] = set()  # shapes of weights, and of their shards' wholes
        self.columns: set[int] = set()  # widths of logits
        self.alive: dict[int, tuple[int, str]] = {}
        self.totals = dict.fromkeys(KINDS, 0)
        self.open()

    def open(self) -> None:
        """Start a page: peak, FLOPs and bytes sent from here on."""
        self.peak = dict(self.totals)
        self.highest = sum(self.totals.values())
        self.flops = 0.0
        self.sent = {"node": 0.0, "network": 0.0}

    def label(self, tensor: Tensor, kind: str) -> None:
        """Count a tensor's memory as ``kind``."""
        key = tensor.untyped_storage()._cdata
        if key in self.alive:
            size, before = self.alive[key]
            self.alive[key] = size, kind
            self.totals[before] -= size
            self.totals[kind] += size

    def resized(self, storage: torch.UntypedStorage) -> None:
        """A storage got another size: FSDP's buffers for gathered weights do, and nothing else."""
        if storage._cdata in self.alive:
            self._forget(storage._cdata)
            self._remember(storage._cdata, storage.nbytes(), "communication")

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if any(issubclass(t, DTensor) for t in types):
            return NotImplemented  # its local tensors come by next
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:
            return args[0].fake_device
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
            self._remember(key, storage.nbytes(), self._kind_of(tensor, func))
            weakref.finalize(storage, self._forget, key)

    def _kind_of(self, tensor: Tensor, func: Any) -> str:
        if self.kind != "activations" or tensor.ndim != 2:
            return self.kind
        if tensor.shape[1] in self.columns and tuple(tensor.shape) not in self.matrices:
            return "logits"
        if tuple(tensor.shape) in self.matrices:  # a copy of a weight in autocast's precision, or a gradient
            copied = func is _aten._to_copy.default and tensor.dtype != torch.float32 and not self.backward
            return "weights" if copied else "gradients"
        return self.kind

    def _remember(self, key: int, size: int, kind: str) -> None:
        self.alive[key] = size, kind
        self.totals[kind] += size
        if (now := sum(self.totals.values())) > self.highest:
            self.highest, self.peak = now, dict(self.totals)

    def _forget(self, key: int) -> None:
        size, kind = self.alive.pop(key)
        self.totals[kind] -= size

    def _send(self, operator: Any, args: tuple[Any, ...]) -> None:
        tensors = [t for t in tree_leaves(args) if isinstance(t, Tensor)]
        groups = [a for a in tree_leaves(args) if isinstance(a, torch.ScriptObject)]
        ranks = next((r for r in map(_ranks_of, groups) if r), [0])
        share = 1 - 1 / len(ranks)  # a ring sends all but a rank's own part
        size = tensors[0].nbytes if tensors else 0
        if operator == _c10d._reduce_scatter_base_:
            self.label(tensors[0], "gradients")
            self.label(tensors[1], "communication")
            size = tensors[1].nbytes
        elif operator == _c10d._allgather_base_:
            self.label(tensors[0], "communication")
        elif operator == _c10d.allreduce_:
            size = 2 * sum(t.nbytes for t in tensors)
        elif operator == _c10d.send:
            share = 1
        elif operator != _c10d.allgather_:
            return
        within = max(ranks) - min(ranks) < self.node
        self.sent["node" if within else "network"] += share * size


def _ranks_of(group: Any) -> list[int]:
    try:
        return dist.get_process_group_ranks(dist.ProcessGroup.unbox(group))
    except (RuntimeError, ValueError, KeyError):  # the operator's options, which are no group
        return []


def _index(args: tuple[Any, ...]) -> Tensor | None:
    """``tensor[mask]``, where all is taken to be true."""
    tensor, indices = args[:2]
    if indices[0] is None or indices[0].dtype != torch.bool:
        return None
    mask = indices[0]
    taken: Tensor = tensor.new_empty((mask.numel(), *tensor.shape[mask.ndim :]))
    return taken


_DATA_DEPENDENT: dict[Any, Callable[[tuple[Any, ...]], Any]] = {
    _aten.index: _index,
    _aten.index_put_: lambda args: args[0],
    _aten._index_put_impl_: lambda args: args[0],
    _aten.index_put: lambda args: torch.ops.aten.empty_like.default(args[0]),
    _aten._unique2: lambda args: tuple(args[0].new_empty(n) for n in (args[0].numel(), 0, 0)),
    _aten.equal: lambda args: True,
}
"""Operators whose result's shape depends on data, and what is taken for it."""


def _fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **_: Any,
) -> Tensor:
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (t.to(torch.bfloat16) for t in (query, key, value))
        attn_mask = attn_mask if attn_mask is None else attn_mask.to(torch.bfloat16)
    if attn_mask is not None:
        attn_mask = attn_mask.expand(*query.shape[:-1], key.shape[-2])
    learning = torch.is_grad_enabled()
    out: Tensor = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, learning, dropout_p, is_causal, scale=scale
    )[0]
    return out


@contextmanager
def imagined(ledger: Ledger, *, cuda: bool, world: int) -> Iterator[None]:
    """In here tensors hold nothing, ``world - 1`` other ranks do nothing, and ``ledger`` keeps the books.

    Args:
        cuda: whether operators that a GPU has otherwise are taken as there.

    Raises:
        RuntimeError: this process is one of several ranks.
    """
    if dist.is_initialized():
        raise RuntimeError("a plan imagines its ranks, and this process is one of several")
    with ExitStack() as stack:
        if world > 1:
            from torch.testing._internal.distributed.fake_pg import FakeStore

            dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=world)
            stack.callback(dist.destroy_process_group)
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        if cuda:  # its fused attention takes biases that learn, and its autocast normalises in float32
            stack.enter_context(replaced(F, "scaled_dot_product_attention", _fused_attention))
            stack.enter_context(replaced(F, "layer_norm", partial(_layer_norm, F.layer_norm)))
        stack.enter_context(ledger)
        # resizing a storage is no operator that is dispatched
        resize = torch.UntypedStorage.resize_
        stack.enter_context(replaced(torch.UntypedStorage, "resize_", partialmethod(_resize, resize, ledger)))
        yield


def _resize(storage: torch.UntypedStorage, original: Callable[..., Any], ledger: Ledger, size: int) -> Any:
    out = original(storage, size)
    ledger.resized(storage)
    return out


def _layer_norm(original: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return original(x.float() if torch.is_autocast_enabled("cpu") else x, *args, **kwargs)


def shapes_of(tensors: Collection[Tensor]) -> set[tuple[int, ...]]:
    """Shapes of matrices among ``tensors``, and of their transposes."""
    matrices = [tuple(t.shape) for t in tensors if t.ndim == 2]
    return {*matrices, *(shape[::-1] for shape in matrices)}
