"""Facts about this machine: the precision to use, its matmul throughput, memory, and the FLOPs of a step."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from openpali.processor import bf16_is_faster, product_rate

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


def resolve_precision(wanted: str, device: torch.device) -> torch.dtype:
    """The dtype of ``precision = "auto" | "bf16" | "fp32"``.

    ``auto`` is bf16 if the hardware multiplies it faster, otherwise float32. fp16 is never used, because T5
    weights overflow in it.
    """
    if wanted == "auto":
        return torch.bfloat16 if bf16_is_faster(device) else torch.float32
    return torch.bfloat16 if wanted == "bf16" else torch.float32


def matmul_peak(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """FLOP/s of a large matmul on this device, with all threads: the baseline for a step's throughput.

    Of a smaller one where these are slow, as bf16 is on CPUs without it: eight large ones would take half a minute.
    """
    size = 8192 if device.type == "cuda" else 1024
    small = size // 4
    best = product_rate(device, dtype, small, seconds / 10)
    if 2 * size**3 / best > seconds:
        return best
    return product_rate(device, dtype, size, seconds)


@contextmanager
def kept_memory(device: torch.device) -> Iterator[None]:
    """Stop glibc from returning freed memory to the OS while a model trains on the CPU.

    By default glibc returns blocks of 32 MiB and more at once, and the OS clears them page by page when they are
    allocated again: 12 ms for 38 MB, instead of 1 ms. Activations of a base-sized model are such blocks. Does
    nothing on GPUs and without glibc (macOS, Windows, musl).
    """
    if device.type != "cpu" or not _glibc(threshold=2**30, trim=2**31 - 1):
        yield
        return
    try:
        yield
    finally:
        _glibc(threshold=2**25, trim=2**26)  # the limits of its automatic adjustment
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)


def _glibc(threshold: int, trim: int) -> bool:
    """Set malloc's mmap threshold and the free memory that it keeps, in bytes; returns whether this is glibc."""
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl
        return False
    mmap_threshold, trim_threshold = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h
    return bool(mallopt(mmap_threshold, threshold) and mallopt(trim_threshold, trim))


def peak_memory(device: torch.device) -> int:
    """Peak bytes of this process so far: on its GPU, or else its resident memory; 0 if the system does not tell (on
    Windows)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if resource is None:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def count_flops(step: Callable[[], object]) -> float:
    """Run ``step()`` once and count the FLOPs of its matmuls, forward and backward.

    Results stay the same to the last bit, unlike under torch's ``FlopCounterMode``, which decomposes some operators
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
    """FLOPs of one dispatched operator, by torch's own formulas; 0 unless it is a matmul."""
    if (operator := func._overloadpacket) in flop_registry:
        return float(flop_registry[operator](*args, **kwargs, out_val=out))
    if operator in _CPU_ATTENTION:  # kernels that torch does not count
        first, matmuls = _CPU_ATTENTION[operator]
        query, key = args[first], args[first + 1]
        return float(2 * matmuls * query.numel() * key.shape[-2])
    return 0.0


# attention operator -> position of the query among its arguments, number of matmuls of queries x keys x width
_CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (0, 2),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (1, 5),
}
