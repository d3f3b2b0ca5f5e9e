"""Scaled dot-product attention: torch's own, or in its parts where these are faster or their weights wanted."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import has_torch_function


def attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """SDPA: ``[..., L, d]``, ``[..., N, d]`` twice and a mask, bool or added, that broadcasts to ``[..., L, N]``.

    In bf16 on a CPU, without gradients and for few scores, two products and a softmax: there torch's fused kernel
    takes 14 times as long for one query over 3,380 keys, and twice for 256 over 256. Not where a mode listens to
    torch's functions, which is to hear of this one.
    """
    plain = query.dtype == torch.bfloat16 and query.device.type == "cpu" and not torch.is_grad_enabled()
    if plain and has_few_scores(query, key) and not has_torch_function((query,)):
        return spelled_out(query, key, value, attn_mask, scale)[0]
    return F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask, scale=scale)


def has_few_scores(query: Tensor, key: Tensor) -> bool:
    """Whether scores are no more than those of 256 queries over as many keys: then they may be held."""
    return query.shape[-2] * key.shape[-2] <= 256**2


def spelled_out(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """What SDPA returns for these, and the weights; a query that may see no key gets zeros, as there."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query if scale == 1.0 else query * scale) @ key.transpose(-2, -1)
    if attn_mask is None:
        weights = scores.softmax(-1)
    else:
        scores = scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
        sees = scores.detach().amax(-1, keepdim=True) > -math.inf
        # finite: a row of -inf would be one of nan, and so would its gradient
        weights = scores.clamp(min=torch.finfo(scores.dtype).min).softmax(-1) * sees
    return weights @ value, weights
