"""QK-clip: limits the growth of queries and keys, before attention becomes one-hot.

Kimi K2 (arXiv 2507.20534, section 2.1) measures the largest score of a batch. Here the spread of scores is computed
from the weights, so that an update stays a function of weights and gradients only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from openpali.model.attention import AttentionLayer
from openpali.model.t5 import CrossAttention, SelfAttention
from openpali.model.vit import Attention

_CLIPPED = Attention | SelfAttention | CrossAttention


def attentions(model: nn.Module) -> list[nn.Module]:
    """The attention layers that learn, without pooling: its single learned query has no spread."""
    found = [m for m in model.modules() if isinstance(m, _CLIPPED) or _refuses(m)]
    learning: list[nn.Module] = [m for m in found if any(p.requires_grad for p in m.parameters())]
    # Gemma's heads share keys, so that none can be clipped alone; Gemma 3 normalises queries and keys itself.
    if any(map(_refuses, learning)):
        raise ValueError(
            "optimizer.qk_clip bounds the attention of a ViT and of T5, and cannot bound Gemma's or BART's, which "
            "learns here: remove optimizer.qk_clip"
        )
    return learning


def _refuses(layer: nn.Module) -> bool:
    return isinstance(layer, AttentionLayer) and not layer.qk_clip


@torch.no_grad()
def clip_queries_and_keys(layers: Sequence[nn.Module], limit: float) -> None:
    """Scale queries and keys, in place, so that the :func:`spread` of no head is above ``limit``."""
    for layer in layers:
        factor = (limit / spread(layer)).clamp(max=1.0).sqrt()  # [h]
        for side in _queries_and_keys(layer):
            for rows in side:
                rows.mul_(factor.view(-1, *[1] * (rows.ndim - 1)))


def spread(layer: nn.Module) -> Tensor:
    """Per head ``[h]``: the standard deviation of scores for inputs with independent entries of variance 1.

    This is the Frobenius norm of ``Wq' Wk`` times the scale of the scores. At initialisation it is near 1 in both
    ViT and T5.
    """
    (queries, *_), (keys, *_) = _queries_and_keys(layer)
    d = queries.shape[1]
    grams = (queries @ queries.mT) * (keys @ keys.mT)  # [h, d, d]: tr(Wq Wq' Wk Wk')
    return grams.sum((1, 2)).clamp(min=0).sqrt() * (d**-0.5 if isinstance(layer, Attention) else 1.0)


def _queries_and_keys(layer: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Weights ``[h, d, D]`` of queries and of keys, each followed by its bias ``[h, d]`` if it has one."""
    if isinstance(layer, CrossAttention):
        query, key = layer.query, layer.key_value
        inner = query.out_features
        sides = [(query, 0), (key, 0)]
    else:
        assert isinstance(layer, Attention | SelfAttention)
        inner = layer.qkv.out_features // 3
        sides = [(layer.qkv, 0), (layer.qkv, inner)]
    queries, keys = (
        [
            p[start : start + inner].view(layer.heads, -1, *p.shape[1:])
            for p in (dense.weight, dense.bias)
            if p is not None
        ]
        for dense, start in sides
    )
    return queries, keys
