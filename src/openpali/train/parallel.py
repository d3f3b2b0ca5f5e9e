"""Where a model lies: activation checkpointing, then compilation, then sharding. No model code knows of it.

The order matters, and is always this one: what is compiled holds the checkpointing, so that the compiler sees what
is computed twice; shards are gathered around the compiled blocks, outside of what is traced. The unit of all three
is a transformer block. What lies outside of blocks (embeddings, norms, head, SigLIP's temperature) is gathered
once a step, in float32. Vectors of blocks (norms, biases) are small, and whole on every rank.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from openpali.distributed import Ranks
from openpali.model.t5 import DecoderLayer, EncoderLayer
from openpali.model.vit import Block, ViT
from openpali.train.recipe import ParallelSpec

_aten = torch.ops.aten
KEPT = {  # by "selective": what costs most to compute again
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
    """Whether each rank holds only its share of the model."""
    return ranks.world > 1 and spec.shard != "none"


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The transformer blocks of a model: of the ViT, the text tower, the encoder and the decoder."""
    return [module for module in model.modules() if isinstance(module, Block | EncoderLayer | DecoderLayer)]


def place(model: nn.Module, spec: ParallelSpec, ranks: Ranks, dtype: torch.dtype) -> None:
    """Put a model where it trains, in place; names of parameters stay.

    Args:
        model: whole on rank 0. If it is sharded, other ranks give theirs on the meta device; and where rank 0 does
            so too, its values are left for a checkpoint to fill.
        spec: how.
        ranks: this process among all.
        dtype: in which blocks compute; their matrices are gathered in it. Gradients are reduced in float32.
    """
    for block in blocks_of(model):
        if spec.checkpointing != "none":
            _replace_forward(block, partial(checkpoint, block.forward, **_how(spec)))
        if spec.compile:
            _replace_forward(block, torch.compile(block.forward))
    if is_sharded(spec, ranks):
        _shard(model, spec, ranks, dtype)
    else:
        model.to(ranks.device)


def whole(tensor: Tensor) -> Tensor:
    """A tensor with the shares of all ranks, who must all ask."""
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
    # activations stay what they are: autocast casts them as it does on one rank, the residual stream is float32
    low = MixedPrecisionPolicy(
        param_dtype=None if dtype == torch.float32 else dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    # norms compute in float32, which what is gathered in bf16 would take from them
    vectors = {p for block in blocks_of(model) for p in block.parameters() if p.ndim < 2}
    # position embeddings are replaced where the resolution changes, so every rank keeps all of them
    positions: set[nn.Parameter] = {m.positions for m in model.modules() if isinstance(m, ViT)}
    for block in blocks_of(model):
        if isinstance(block, DecoderLayer):
            cut(block.cross.key_value, mp_policy=low, ignored_params=vectors)  # called before the layer itself is
        cut(block, mp_policy=low, ignored_params=vectors)
    cut(model, mp_policy=MixedPrecisionPolicy(cast_forward_inputs=False), ignored_params=positions | vectors)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # ranks hold shares of the loss: gradients add up
            module.set_force_sum_reduction_for_comms(True)
    model.to_empty(device=ranks.device)
    if filled:
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
        set_model_state_dict(model, start, options=options)
