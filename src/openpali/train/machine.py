"""What this machine can do: precision worth using, and its peak rate of matrix products."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


def resolve_precision(wanted: str, device: torch.device) -> torch.dtype:
    """``auto`` is bf16 where the hardware multiplies it natively, else float32: without AVX512-BF16 or AMX a
    CPU emulates bf16 a hundred times slower. fp16 is never used: T5 weights overflow in it."""
    if wanted == "auto":
        native = (
            torch.cuda.is_bf16_supported()
            if device.type == "cuda"
            else torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported()
        )
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16 if wanted == "bf16" else torch.float32


def matmul_peak(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """FLOP/s of a large matrix product on this device, all threads: what a step is compared with."""
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best, end = 0.0, time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        (a @ b)[0, 0].item()
        now = time.perf_counter()
        best = max(best, 2 * size**3 / (now - start))
        if now > end:
            return best


def count_flops(step: Callable[[], None]) -> float:
    """Run ``step()`` once and count the FLOPs of its matrix products, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())
