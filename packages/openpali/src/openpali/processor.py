"""What the hardware multiplies quickly."""

from __future__ import annotations

import itertools
import time
from functools import cache

import torch

_FEWEST = 8  # products, of which the fastest counts: where others take the core, one may wait for a second
_SIDE = 512  # of the matrices by which dtypes are compared: a product takes .3 to 4 milliseconds
_TURNS = 3  # of each dtype: another process may hold a core for one
_TURN = 0.02  # seconds


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 natively: a CPU without AVX512-BF16 or AMX is a hundred times slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


@cache
def bf16_is_faster(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 natively, and faster than float32.

    A CPU is timed, for 150 ms, in turns: AVX512-BF16 without AMX, as virtual machines have it, takes twice the time
    of float32 on an Emerald Rapids.
    """
    if device.type == "cuda" or not multiplies_bf16(device):
        return multiplies_bf16(device)
    best = {torch.bfloat16: 0.0, torch.float32: 0.0}
    for dtype in _TURNS * (*best,):
        best[dtype] = max(best[dtype], product_rate(device, dtype, _SIDE, _TURN))
    return best[torch.bfloat16] > best[torch.float32]


def product_rate(device: torch.device, dtype: torch.dtype, size: int, seconds: float) -> float:
    """FLOP/s of the fastest product of square matrices."""
    own = torch.Generator(device)  # no one else's numbers change
    a, b = (torch.randn(size, size, device=device, dtype=dtype, generator=own) for _ in range(2))
    _ = a @ b  # the first call prepares the kernel
    best, end = 0.0, time.perf_counter() + seconds
    for count in itertools.count(1):
        start = time.perf_counter()
        (a @ b)[0, 0].item()
        now = time.perf_counter()
        best = max(best, 2 * size**3 / (now - start))
        if now > end and count >= _FEWEST:
            break
    return best
