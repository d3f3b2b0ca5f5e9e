"""What the hardware multiplies quickly."""

from __future__ import annotations

import timeit
from functools import cache

import torch

_SIDE = 512  # of the matrices by which products are timed: 1 to 4 milliseconds
_TIMES = 6


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 natively: a CPU without AVX512-BF16 or AMX is a hundred times slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


@cache
def bf16_is_faster(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 natively, and faster than float32.

    A CPU is timed, for 30 ms: AVX512-BF16 without AMX, as virtual machines have it, takes twice the time of float32
    on an Emerald Rapids.
    """
    if device.type == "cuda" or not multiplies_bf16(device):
        return multiplies_bf16(device)
    return product_seconds(torch.bfloat16) < product_seconds(torch.float32)


def product_seconds(dtype: torch.dtype) -> float:
    """Seconds that a product of matrices takes on the CPU: those of the fastest of several."""
    a = torch.ones(_SIDE, _SIDE, dtype=dtype)
    _ = a @ a  # the first call prepares the kernel
    return min(timeit.repeat(lambda: a @ a, number=1, repeat=_TIMES))
