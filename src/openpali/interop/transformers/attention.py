"""Attention spelled out, for who asks transformers for "eager" or for the weights that SDPA keeps to itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from openpali.model.attention import spelled_out


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
        out, weights = spelled_out(*args, **(kwargs or {}))
        self.weights.append(weights)
        return out
