"""Attention spelled out, for who asks transformers for "eager" or for the weights that SDPA keeps to itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class EagerAttention(TorchFunctionMode):
    """Within it, ``scaled_dot_product_attention`` is two products and a softmax, whose results are kept.

    Our modules stay as they are: the same code runs, and its call of SDPA is answered here.

    Args:
        weights: those of each call are put here in order, ``[B, h, L, N]``.
    """

    def __init__(self, weights: list[Tensor]) -> None:
        super().__init__()
        self.weights = weights

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        out, weights = attend(*args, **(kwargs or {}))
        self.weights.append(weights)
        return out


def attend(
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
