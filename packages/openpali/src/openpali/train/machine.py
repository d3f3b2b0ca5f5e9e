"""Facts about this machine: the precision to use, and memory."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from openpali.processor import bf16_is_faster

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
