"""Linear layers and tied embeddings with int8 weights: half the memory of bf16, and half the memory traffic per
generated token. :mod:`openpali.model.int4` has linear layers of half of that.

Symmetric, with one scale per output: ``y = (x @ W.T) * scale + bias``, W in -127..127. Scales are exact in bf16, so
no dtype rounds them. Activations keep their dtype, unless :func:`compute_in_int8` rounds those of many rows, too:
one scale per row, for matmuls that take half the time of bf16 on processors with VNNI.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from openpali.model.layers import Embedding, matmul_dtype

_KERNEL_STEP = 16  # inputs that the kernel reads at a time, also beyond the last: torch 2.13 does not check
FEW_ROWS = 32  # up to this many rows, a kernel that reads int8 is faster than widening before the matmul
ROUNDED_ROWS = 512  # activations that are rounded, multiplied and scaled at a time; more leave the cache


class QuantizedLinear(nn.Module, ABC):
    """``[..., I] -> [..., O]`` like ``nn.Linear``, frozen, and the change to it (:mod:`openpali.model.lora`).

    State: ``weight`` (integers), ``scale``, ``bias`` ``[O]`` or None.

    Attributes:
        rounds: whether activations may be rounded to int8, too.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, scale: Tensor, inputs: int, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = inputs, len(weight)
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", torch.empty(len(weight)) if bias else None)
        self.lora: nn.Module | None = None
        self.rounds = False

    @property
    @abstractmethod
    def matrix(self) -> Tensor:
        """The weight as floats, float32 ``[O, I]``."""

    @abstractmethod
    def _multiply(self, x: Tensor) -> Tensor:
        """The product with the weight, without bias."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._frozen(x)
        return y if self.lora is None else y + cast(Tensor, self.lora(x))

    def _frozen(self, x: Tensor) -> Tensor:
        y = self._multiply(x)
        return y if self.bias is None else y + self.bias.to(y.dtype)


class Int8Linear(QuantizedLinear):
    """State: ``weight`` int8 ``[O, I]``, ``scale`` ``[O]`` (one per output), ``bias`` ``[O]`` or None.

    With ``rounds``, more than :data:`FEW_ROWS` activations are rounded to int8, on a CPU without gradients.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__(torch.empty(outputs, inputs, dtype=torch.int8), torch.empty(outputs), inputs, bias)

    @property
    def matrix(self) -> Tensor:
        return widen(self.weight, self.scale)

    def _multiply(self, x: Tensor) -> Tensor:
        return _multiply(x, self.weight, self.scale, self.rounds)


class TiedEmbedding(Embedding):
    """An embedding ``[V, D]`` that is the head, too. Its ``weight`` may be int8, with a ``scale`` ``[V]``."""

    scale: Tensor | None

    def __init__(self, count: int, width: int) -> None:
        super().__init__(count, width)
        self.register_buffer("scale", None)

    def forward(self, ids: Tensor) -> Tensor:
        rows = super().forward(ids)
        return rows if self.scale is None else rows * self.scale[ids][..., None]

    @property
    def matrix(self) -> Tensor:
        """The weight as floats."""
        return self.weight if self.scale is None else widen(self.weight, self.scale)

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states ``[..., D]`` -> ``[..., V]``."""
        if self.scale is None:
            return hidden @ self.weight.to(hidden.dtype).T
        return _multiply(hidden, self.weight, self.scale)

    def use_int8(self) -> None:
        """Replace the weight by an empty one in int8."""
        shape, device = self.weight.shape, self.weight.device
        del self.weight
        self.register_buffer("weight", torch.empty(shape, dtype=torch.int8, device=device))
        self.scale = torch.empty(len(self.weight), device=device)


def _multiply(x: Tensor, weight: Tensor, scale: Tensor, rounds: bool = False) -> Tensor:
    """``(x @ weight.T) * scale``; ``rounds``: see :class:`Int8Linear`."""
    x = x.to(matmul_dtype(x))
    rows = x.reshape(-1, x.shape[-1])
    few = rows.shape[0] <= FEW_ROWS
    fits = few and rows.shape[1] % _KERNEL_STEP == 0
    if rows.requires_grad:
        y = cast(Tensor, WidenedMatmul.apply(rows, Tensor.to, weight))  # type: ignore[no-untyped-call]
        y = y * scale.to(x.dtype)
    elif fits and x.dtype == torch.bfloat16 and not x.is_cuda:
        y = torch._weight_int8pack_mm(rows.contiguous(), weight, scale.to(x.dtype))
    elif rounds and x.shape[-2] > FEW_ROWS and not x.is_cuda:  # by the length of rows, whatever their number
        y = _rounded_matmul(rows, weight, scale)
    else:
        y = F.linear(rows, weight.to(x.dtype)) * scale.to(x.dtype)
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


class WidenedMatmul(torch.autograd.Function):
    """``x @ W.T`` whose backward pass widens the weight again, instead of keeping it wide.

    ``widened(*stored, dtype)`` gives W.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, widened: Callable[..., Tensor], *stored: Tensor) -> Tensor:
        ctx.save_for_backward(*stored)
        ctx.widened = widened
        return F.linear(x, widened(*stored, x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        stored = ctx.saved_tensors
        return grad @ ctx.widened(*stored, grad.dtype), None, *(None for _ in stored)


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
    """Replace every linear layer with an empty :class:`Int8Linear`, and weights of tied embeddings; returns their
    names."""
    names = [name for name, module in model.named_modules() if _quantizes(module)]
    for name in names:
        module = cast(nn.Linear | TiedEmbedding, model.get_submodule(name))
        if isinstance(module, TiedEmbedding):
            module.use_int8()
            continue
        with torch.device(module.weight.device):
            quantized = Int8Linear(module.in_features, module.out_features, module.bias is not None)
        model.set_submodule(name, quantized)
    return names


def _quantizes(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or (isinstance(module, TiedEmbedding) and module.scale is None)


def compute_in_int8(model: nn.Module) -> None:
    """Round the weights of linear layers and tied embeddings to int8, if they are floats, and activations as they
    come (:attr:`QuantizedLinear.rounds`).
    """
    if any(getattr(module, "lora", None) is not None for module in model.modules()):
        raise ValueError("merge the adapter before weights are rounded: openpali export --format openpali")
    floats = {name: dict(module.named_parameters()) for name, module in model.named_modules() if _quantizes(module)}
    for name in use_int8(model):
        layer, before = cast(Int8Linear | TiedEmbedding, model.get_submodule(name)), floats[name]
        layer.weight, scale = quantize(before["weight"].detach())
        layer.scale = scale.to(before["weight"].dtype)  # as a model folder is read
        if "bias" in before:
            layer.bias = before["bias"].detach()
    for module in model.modules():
        if isinstance(module, QuantizedLinear):
            module.rounds = True
