"""Scaled dot-product attention in its parts: for who wants its weights, and where fused kernels are slow."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def spelled_out(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """What SDPA returns for these, and the weights; a query that may see no key gets zeros, as there."""
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if attn_mask is None:
        weights = scores.softmax(-1)
    else:
        if attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros_like(scores).masked_fill(~attn_mask, -math.inf)
        scores = scores + attn_mask
        blind = (scores == -math.inf).all(-1, keepdim=True)
        weights = scores.masked_fill(blind, 0.0).softmax(-1).masked_fill(blind, 0.0)
    return weights @ value, weights
