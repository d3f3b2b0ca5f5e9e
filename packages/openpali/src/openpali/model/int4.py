"""Linear layers with int4 weights in groups of inputs, and which layers of a model are stored so: those of the
language model, but for its output head, as in llama.cpp, AutoGPTQ and NNCF.

Symmetric, with one scale per output and group: ``W = q * scale``, q in -8..7. A scale has the sign with which the
largest weight of its group is -8, not 7, and of a few such scales it is the one of the lowest squared error. Scales
are exact in bf16.
"""

from __future__ import annotations

from typing import cast
from weakref import WeakValueDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openpali.model.int8 import FEW_ROWS, QuantizedLinear, WidenedMatmul, use_int8
from openpali.model.layers import matmul_dtype

GROUPS = (128, 64, 32)  # inputs that share a scale; torch's kernel and OpenVINO's take these
HEAD = "head"  # of a language model; rounding it to four bits changes answers most, and is left to int8
_FACTORS = torch.linspace(5 / 7, 8 / 7, 10)  # of tried scales; 1 makes the largest -8, 8 / 7 makes it -7
_BLOCK = 1024  # outputs that are put in the kernel's order at a time, which is one of blocks of 64 or fewer
_ROUNDED = 128  # outputs that are rounded at a time: more leave the cache
_KERNEL_OUTPUTS = 16  # torch's kernel makes multiples of it


class Int4Linear(QuantizedLinear):
    """State: ``weight`` uint8 ``[O, I / 2]`` (:func:`pack`), ``scale`` ``[O, I / group]``, ``bias`` ``[O]``, None.

    Activations are not rounded in torch; OpenVINO rounds them with ``rounds``.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool, group: int) -> None:
        weight, scale = torch.empty(outputs, inputs // 2, dtype=torch.uint8), torch.empty(outputs, inputs // group)
        super().__init__(weight, scale, inputs, bias)
        self.group = group
        self._kernel: _Kernel | None = None

    @property
    def matrix(self) -> Tensor:
        return widen(self.weight, self.scale)

    def _multiply(self, x: Tensor) -> Tensor:
        x = x.to(matmul_dtype(x))
        rows = x.reshape(-1, self.in_features)
        few = len(rows) <= FEW_ROWS
        if rows.requires_grad:
            y = cast(Tensor, WidenedMatmul.apply(rows, widen, self.weight, self.scale))  # type: ignore[no-untyped-call]
        elif few and x.dtype == torch.bfloat16 and not x.is_cuda and not torch.is_grad_enabled():
            self._kernel = _kernel_of(self)
            y = self._kernel(rows)
        else:  # in float32, torch's kernel takes longer than widening
            y = F.linear(rows, widen(self.weight, self.scale, x.dtype))
        return y.reshape(*x.shape[:-1], self.out_features)


class _Kernel:
    """torch's matmul of a few bf16 rows, with the weight in an order that depends on the processor.

    It keeps the stored weight, so that no other tensor gets its address while :data:`_KERNELS` knows it.
    """

    def __init__(self, layer: Int4Linear) -> None:
        self.stored, self.group, self.outputs = layer.weight, layer.group, layer.out_features
        blocks = (unpack(block).to(torch.int32) + 8 for block in torch.split(layer.weight, _BLOCK))
        padded = (F.pad(block, (0, 0, 0, -len(block) % _KERNEL_OUTPUTS)) for block in blocks)
        self.weight = torch.cat([torch._convert_weight_to_int4pack_for_cpu(block, 1) for block in padded])
        scale = F.pad(layer.scale.T.bfloat16(), (0, -self.outputs % _KERNEL_OUTPUTS))
        self.scales = torch.stack([scale, torch.zeros_like(scale)], -1).contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        y = torch._weight_int4pack_mm_for_cpu(x.contiguous(), self.weight, self.group, self.scales)
        return y[:, : self.outputs]


_KERNELS: WeakValueDictionary[int, _Kernel] = WeakValueDictionary()  # by address of a weight, which adapters share


def _kernel_of(layer: Int4Linear) -> _Kernel:
    address = layer.weight.data_ptr()
    kernel = _KERNELS.get(address)
    if kernel is None:
        kernel = _KERNELS[address] = _Kernel(layer)
    return kernel


def pack(values: Tensor) -> Tensor:
    """int8 ``[..., I]`` in -8..7 -> uint8 ``[..., I / 2]``: two in a byte, in two's complement, the first in the
    lower half, as OpenVINO's i4.
    """
    return ((values[..., ::2] & 15) | (values[..., 1::2] << 4)).view(torch.uint8)


def unpack(packed: Tensor, dtype: torch.dtype = torch.int8) -> Tensor:
    """Undo :func:`pack`."""
    values = packed.new_empty(*packed.shape, 2, dtype=dtype)
    signed = packed.view(torch.int8)
    values[..., 0] = (signed << 4) >> 4
    values[..., 1] = signed >> 4
    return values.flatten(-2)


def quantize(weight: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """``[O, I]`` -> packed ``[O, I / 2]`` and scales ``[O, I / group]`` (float32, but exact in bf16)."""
    rounded = [_round(block.float().reshape(len(block), -1, group)) for block in torch.split(weight, _ROUNDED)]
    return torch.cat([pack(q.flatten(1)) for q, _ in rounded]), torch.cat([scale for _, scale in rounded])


def _round(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Groups ``[O, groups, group]`` -> int8 of this shape, and scales ``[O, groups]``; zeros stay zero."""
    largest = weight.gather(-1, weight.abs().argmax(-1, keepdim=True))
    scales = largest * _FACTORS / -8  # [O, groups, factors]
    scales = torch.where(scales.abs() < 1e-12, 1e-12, scales).bfloat16().float()
    tried = torch.split(scales, 1, dim=-1)
    errors = [(_steps(weight, each) * each - weight).square().sum(-1, keepdim=True) for each in tried]
    scale = scales.gather(-1, torch.cat(errors, -1).argmin(-1, keepdim=True))
    return _steps(weight, scale).to(torch.int8), scale[..., 0]


def _steps(weight: Tensor, scale: Tensor) -> Tensor:
    return (weight / scale).round_().clamp_(-8, 7)


def widen(weight: Tensor, scale: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Undo :func:`quantize`: ``[O, I]``."""
    wide = unpack(weight, dtype)
    wide.view(*scale.shape, -1).mul_(scale.to(dtype)[..., None])
    return wide


def use_quantized(model: nn.Module, group: int = 0) -> list[str]:
    """Replace layers by empty ones as ``openpali quantize`` stores them.

    With a ``group``, linear layers of the language model but its head become :class:`Int4Linear`, in groups of so
    many inputs or of the largest of :data:`GROUPS` below it that divides theirs. All others become int8
    (:func:`use_int8`).

    Returns:
        Names of the layers in int8.
    """
    text = cast(nn.Module, model.text) if group else nn.Module()
    linears = {name: each for name, each in text.named_modules() if isinstance(each, nn.Linear) and name != HEAD}
    for name, module in linears.items():
        inputs = module.in_features
        if fit := next((size for size in GROUPS if size <= group and inputs % size == 0), 0):
            with torch.device(module.weight.device):
                text.set_submodule(name, Int4Linear(inputs, module.out_features, module.bias is not None, fit))
    return use_int8(model)


def storage_of(model: nn.Module, group: int = 0) -> dict[str, torch.dtype]:
    """Name and dtype of the tensors that a model is stored as: weights that :func:`use_quantized` replaces as
    integers, scales of int8 in float32, everything else in bf16. The model changes so."""
    scales = {f"{name}.scale" for name in use_quantized(model, group)}
    return {
        name: torch.float32 if name in scales else torch.bfloat16 if tensor.is_floating_point() else tensor.dtype
        for name, tensor in model.state_dict().items()
    }
