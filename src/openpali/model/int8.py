"""Linear layers with int8 weights: half of bf16's memory, and half of its reading per generated token.

Weight-only and symmetric, one scale per output: ``y = (x @ W.T) * scale + bias`` with W in -127..127 and scales
that bf16 holds exactly, so that no dtype rounds either. Activations keep their dtype.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW_ROWS = 32  # up to so many, a kernel that reads int8 is faster than one that multiplies after widening


class Int8Linear(nn.Module):
    """``[..., I] -> [..., O]`` like ``nn.Linear``, for inference.

    State: ``weight`` int8 ``[O, I]``, ``scale`` ``[O]`` (a scale of each output), ``bias`` ``[O]`` or None.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(outputs, inputs, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(outputs))
        self.register_buffer("bias", torch.zeros(outputs) if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if rows.shape[0] <= FEW_ROWS and x.dtype == torch.bfloat16 and not x.is_cuda:
            y = torch._weight_int8pack_mm(rows, self.weight, self.scale.to(x.dtype))
        else:
            y = F.linear(rows, self.weight.to(x.dtype)) * self.scale.to(x.dtype)
        if self.bias is not None:
            y = y + self.bias.to(x.dtype)
        return y.reshape(*x.shape[:-1], -1)


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """``[O, I]`` -> int8 ``[O, I]`` and scales ``[O]``, whose product is nearest to it; rows of zeros stay zero.

    Scales are float32 and numbers of bf16: a scale rounded later would move its whole output by up to 0.2 %.
    """
    scale = (weight.float().abs().amax(dim=1) / 127).clamp(min=1e-12).bfloat16().float()
    return (weight.float() / scale[:, None]).round().to(torch.int8), scale


def widen(weight: Tensor, scale: Tensor) -> Tensor:
    """What :func:`quantize` made, as float32 ``[O, I]``."""
    return weight.float() * scale.float()[:, None]


def use_int8(model: nn.Module) -> list[str]:
    """Put an :class:`Int8Linear`, zero as yet, in the place of every linear layer; returns their names."""
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    for name in names:
        linear = cast(nn.Linear, model.get_submodule(name))
        parent, _, child = name.rpartition(".")
        with torch.device(linear.weight.device):
            small = Int8Linear(linear.in_features, linear.out_features, linear.bias is not None)
        setattr(model.get_submodule(parent), child, small)
    return names
