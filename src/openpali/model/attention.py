"""Scaled dot-product attention in its parts: for who wants its weights, and where fused kernels are slow."""

from __future__ import annotations

import math

import torch
from torch import Tensor


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
