"""Linear layers with int8 weights: half the memory of bf16, and half the memory traffic per generated token.

Symmetric, with one scale per output: ``y = (x @ W.T) * scale + bias``, W in -127..127. Scales are exact in bf16, so
no dtype rounds them. Activations keep their dtype, unless :func:`compute_in_int8` rounds those of many rows, too:
one scale per row, for matmuls that take half the time of bf16 on processors with VNNI.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from openpali.model.layers import matmul_dtype

_KERNEL_STEP = 16  # inputs that the kernel reads at a time, also beyond the last: torch 2.13 does not check
FEW_ROWS = 32  # up to this many rows, a kernel that reads int8 is faster than widening before the matmul
ROUNDED_ROWS = 512  # activations that are rounded, multiplied and scaled at a time; more leave the cache


class Int8Linear(nn.Module):
    """``[..., I] -> [..., O]`` like ``nn.Linear``, frozen, and the change to it (:mod:`openpali.model.lora`).

    State: ``weight`` int8 ``[O, I]``, ``scale`` ``[O]`` (one per output), ``bias`` ``[O]`` or None.

    Attributes:
        rounds: whether more than :data:`FEW_ROWS` activations are rounded to int8, on a CPU without gradients.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.register_buffer("weight", torch.empty(outputs, inputs, dtype=torch.int8))
        self.register_buffer("scale", torch.empty(outputs))
        self.register_buffer("bias", torch.empty(outputs) if bias else None)
        self.lora: nn.Module | None = None
        self.rounds = False

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._frozen(x)
        return y if self.lora is None else y + cast(Tensor, self.lora(x))

    def _frozen(self, x: Tensor) -> Tensor:
        x = x.to(matmul_dtype(x))
        rows = x.reshape(-1, x.shape[-1])
        few = rows.shape[0] <= FEW_ROWS
        fits = few and rows.shape[1] % _KERNEL_STEP == 0
        if rows.requires_grad:
            y = cast(Tensor, _WidenedMatmul.apply(rows, self.weight))  # type: ignore[no-untyped-call]
            y = y * self.scale.to(x.dtype)
        elif fits and x.dtype == torch.bfloat16 and not x.is_cuda:
            y = torch._weight_int8pack_mm(rows, self.weight, self.scale.to(x.dtype))
        elif self.rounds and not few and not x.is_cuda:
            y = _rounded_matmul(rows, self.weight, self.scale)
        else:
            y = F.linear(rows, self.weight.to(x.dtype)) * self.scale.to(x.dtype)
        if self.bias is not None:
            y = y + self.bias.to(x.dtype)
        return y.reshape(*x.shape[:-1], y.shape[-1])


def _rounded_matmul(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """``(x @ weight.T) * scale`` with ``x`` ``[rows, I]`` rounded to int8, one scale per row."""
    y = x.new_empty(len(x), len(weight))
    count = min(len(x), ROUNDED_ROWS)
    # the memory of all blocks: new memory for each would take as long as its matmul
    room = x.new_empty(count, x.shape[1])
    rounded = torch.empty_like(room, dtype=torch.int8)
    products = y.new_empty(count, len(weight), dtype=torch.int32)
    scale = scale.to(x.dtype)
    for rows, out in zip(torch.split(x, count), torch.split(y, count), strict=True):
        n = len(rows)
        # 126: rounded to bf16, 127 could become 128, which int8 has not
        steps = torch.abs(rows, out=room[:n]).amax(-1, keepdim=True).div_(126).clamp_(min=1e-12)
        rounded[:n] = torch.mul(rows, steps.reciprocal(), out=room[:n]).round_()
        torch._int_mm(rounded[:n], weight.T, out=products[:n])
        out.copy_(products[:n]).mul_(scale).mul_(steps)
    return y


class _WidenedMatmul(torch.autograd.Function):
    """``x @ weight.T`` whose backward pass widens the weight again, instead of keeping it wide."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return F.linear(x, weight.to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        [weight] = ctx.saved_tensors
        return grad @ weight.to(grad.dtype), None


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """``[O, I]`` -> int8 ``[O, I]`` and scales ``[O]`` whose product is closest to it; rows of zeros stay zero.

    Scales are float32 but rounded to bf16: rounded later, one would shift its whole output by up to 0.2 %.
    """
    scale = (weight.float().abs().amax(dim=1) / 127).clamp(min=1e-12).bfloat16().float()
    return (weight.float() / scale[:, None]).round().to(torch.int8), scale


def widen(weight: Tensor, scale: Tensor) -> Tensor:
    """Undo :func:`quantize`: float32 ``[O, I]``."""
    return weight.float() * scale.float()[:, None]


def use_int8(model: nn.Module) -> list[str]:
    """Replace every linear layer with an empty :class:`Int8Linear`; returns their names."""
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    for name in names:
        linear = cast(nn.Linear, model.get_submodule(name))
        parent, _, child = name.rpartition(".")
        with torch.device(linear.weight.device):
            quantized = Int8Linear(linear.in_features, linear.out_features, linear.bias is not None)
        setattr(model.get_submodule(parent), child, quantized)
    return names


def compute_in_int8(model: nn.Module) -> None:
    """Round the weights of linear layers to int8, if they are not, and activations of many rows as they come
    (:attr:`Int8Linear.rounds`)."""
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    for name in use_int8(model):
        layer, linear = cast(Int8Linear, model.get_submodule(name)), linears[name]
        layer.weight, layer.scale = quantize(linear.weight.detach())
        layer.bias = None if linear.bias is None else linear.bias.detach()
    for module in model.modules():
        if isinstance(module, Int8Linear):
            module.rounds = True


def storage_of(model: nn.Module) -> dict[str, torch.dtype]:
    """Name and dtype of the tensors that a model is stored as: weights of linear layers in int8, their scales in
    float32, everything else in bf16. Replaces its linear layers (:func:`use_int8`)."""
    scales = {f"{name}.scale" for name in use_int8(model)}
    return {
        name: tensor.dtype if tensor.dtype == torch.int8 else torch.float32 if name in scales else torch.bfloat16
        for name, tensor in model.state_dict().items()
    }
