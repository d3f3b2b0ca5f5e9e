"""Placement of a model: activation checkpointing, then compilation, then sharding, without changes to model code.

The order is fixed: compilation includes the checkpointing, so that the compiler sees the recomputation; sharding
goes around the compiled blocks, so that gathering is not traced. The unit of all three is a transformer block.
Parameters outside of blocks (embeddings, norms, head, SigLIP's temperature) are gathered once per micro-batch, in
float32. Vectors in blocks (norms, biases) are small and unsharded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from openpali.architectures.registry import block_types
from openpali.distributed import Ranks
from openpali.model.vit import ViT
from openpali.train.recipe import ParallelSpec

_aten = torch.ops.aten
KEPT = {  # by "selective" checkpointing: the operators that cost most to recompute
    _aten.mm.default,
    _aten.addmm.default,
    _aten.bmm.default,
    _aten.baddbmm.default,
    _aten._scaled_dot_product_flash_attention.default,
    _aten._scaled_dot_product_efficient_attention.default,
    _aten._scaled_dot_product_cudnn_attention.default,
    _aten._scaled_dot_product_flash_attention_for_cpu.default,
}


def is_sharded(spec: ParallelSpec, ranks: Ranks) -> bool:
    """Whether each rank holds only a shard of the model."""
    return ranks.world > 1 and spec.shard != "none"


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The transformer blocks of a model: of the ViT, the text tower, the encoder and the decoder."""
    known = tuple(block_types())
    return [module for module in model.modules() if isinstance(module, known)]


def place(model: nn.Module, spec: ParallelSpec, ranks: Ranks, dtype: torch.dtype) -> None:
    """Place a model for training, in place; parameters keep their names. Collective.

    Args:
        model: unsharded, with its weights on rank 0. To shard it, other ranks pass it on the meta device. If rank 0
            does so too, weights stay uninitialised, for a checkpoint to fill.
        dtype: in which blocks compute, and their matrices are gathered. Gradients are reduced in float32.
    """
    for block in blocks_of(model):
        if spec.checkpointing != "none":
            _replace_forward(block, partial(checkpoint, block.forward, **_how(spec)))
        if spec.compile:
            _replace_forward(block, torch.compile(block.forward))
    if is_sharded(spec, ranks):
        _shard(model, spec, ranks, dtype)
    elif any(p.is_meta for p in model.parameters()):
        model.to_empty(device=ranks.device)
    else:
        model.to(ranks.device)


@contextmanager
def runnable(model: nn.Module) -> Iterator[None]:
    """Let parts of a sharded model be called without gradients, as generation does. Collective.

    Within the block, every rank must make the same calls. Parameters outside of transformer blocks stay gathered.
    """
    if not isinstance(model, FSDPModule):
        yield
        return
    _visit(model)
    for module in model.modules():
        if isinstance(module, FSDPModule):  # its buffers must not be made in inference mode, or training fails
            module.unshard()
            module.reshard()
    model.unshard()
    try:
        yield
    finally:
        model.reshard()


def _visit(model: FSDPModule) -> None:
    """Enter and leave the root, because FSDP takes the module that is called first for the root."""
    model.visit = lambda: None  # type: ignore[attr-defined]
    register_fsdp_forward_method(cast(nn.Module, model), "visit")
    model.visit()  # type: ignore[attr-defined]
    del model.visit  # type: ignore[attr-defined]


def whole(tensor: Tensor) -> Tensor:
    """An unsharded tensor. Collective if ``tensor`` is sharded."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _replace_forward(block: nn.Module, forward: Callable[..., Any]) -> None:
    setattr(block, "forward", forward)  # noqa: B010 (a wrapping module would rename every parameter)


def _how(spec: ParallelSpec) -> dict[str, Any]:
    if spec.checkpointing == "full":
        return {"use_reentrant": False}
    return {"use_reentrant": False, "context_fn": partial(create_selective_checkpoint_contexts, _keep)}


def _keep(_: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operator in KEPT else CheckpointPolicy.PREFER_RECOMPUTE


def _shard(model: nn.Module, spec: ParallelSpec, ranks: Ranks, dtype: torch.dtype) -> None:
    assert spec.shard != "none"
    start = model.state_dict() if ranks.rank == 0 else {}
    filled = ranks.sum(float(any(not value.is_meta for value in start.values()))) > 0
    model.to("meta")
    cut = partial(fully_shard, mesh=ranks.mesh(spec.shard))
    # inputs are not cast: autocast does that, as on one rank, and the residual stream is float32
    low = MixedPrecisionPolicy(
        param_dtype=None if dtype == torch.float32 else dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    # vectors are not sharded: they would be gathered in bf16, and norms compute in float32
    vectors = {p for block in blocks_of(model) for p in block.parameters() if p.ndim < 2}
    # nor are position embeddings, which are replaced when the resolution changes
    positions: set[nn.Parameter] = {m.positions for m in model.modules() if isinstance(m, ViT)}
    known = block_types()
    for block in blocks_of(model):
        parts = next(known[kind] for kind in type(block).__mro__ if kind in known)
        for part in parts:  # which are called before the block
            cut(block.get_submodule(part), mp_policy=low, ignored_params=vectors)
        cut(block, mp_policy=low, ignored_params=vectors)
    cut(model, mp_policy=MixedPrecisionPolicy(cast_forward_inputs=False), ignored_params=positions | vectors)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # the loss is a sum over ranks, and so are gradients
            module.set_force_sum_reduction_for_comms(True)
    model.to_empty(device=ranks.device)
    if filled:
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
        set_model_state_dict(model, start, options=options)
