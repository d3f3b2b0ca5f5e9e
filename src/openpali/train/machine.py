"""What this machine can do: precision worth using, and its peak rate of matrix products."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


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
    _ = a @ b  # the first waits for its kernel
    best, end = 0.0, time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        (a @ b)[0, 0].item()
        now = time.perf_counter()
        best = max(best, 2 * size**3 / (now - start))
        if now > end:
            return best


@contextmanager
def kept_memory(device: torch.device) -> Iterator[None]:
    """In here memory that a step on a CPU frees stays with the process, for the next step to take.

    glibc gives blocks of 32 MiB and more back to the system at once, and each time they are taken the system clears
    them page by page: 12 ms for 38 MB of zeros that are otherwise there in 1. Activations of a base-sized model are
    such blocks. Elsewhere than under glibc this does nothing.
    """
    if device.type != "cpu" or not _glibc(threshold=2**30, trim=2**31 - 1):
        yield
        return
    try:
        yield
    finally:
        _glibc(threshold=2**25, trim=2**26)  # where its own adjustment ends
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)


def _glibc(threshold: int, trim: int) -> bool:
    """Tell malloc from what size on blocks are mapped one by one, and how much free memory it may keep."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return sys.platform == "linux" and bool(mallopt(-3, threshold) and mallopt(-1, trim))


@contextmanager
def replaced(owner: Any, name: str, new: Any) -> Iterator[None]:
    """In here ``owner``'s attribute is ``new``."""
    original = getattr(owner, name)
    setattr(owner, name, new)
    try:
        yield
    finally:
        setattr(owner, name, original)


def peak_memory(device: torch.device) -> int:
    """Bytes that this process has held at most: on its GPU, or else in all."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident_memory() -> int:
    """Bytes of this process that are in memory now (Linux; 0 elsewhere)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * resource.getpagesize()


def count_flops(step: Callable[[], object]) -> float:
    """Run ``step()`` once and count the FLOPs of its matrix products, forward and backward.

    To the last bit the step that it is without counting; torch's own ``FlopCounterMode`` decomposes some operators
    into others that round differently.
    """
    with _Counter() as counter:
        step()
    flops: float = counter.flops
    return flops


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self.flops += flops_of(func, args, kwargs, out)
        return out


def flops_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> float:
    """FLOPs of one dispatched operator, by torch's own formulas; 0 for what is no matrix product."""
    if (operator := func._overloadpacket) in flop_registry:
        return float(flop_registry[operator](*args, **kwargs, out_val=out))
    if operator in _CPU_ATTENTION:  # the kernels that torch does not count
        first, products = _CPU_ATTENTION[operator]
        query, key = args[first], args[first + 1]
        return float(2 * products * query.numel() * key.shape[-2])
    return 0.0


# attention operator -> position of the query among its arguments, matrix products of queries x keys x width
_CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (0, 2),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (1, 5),
}
