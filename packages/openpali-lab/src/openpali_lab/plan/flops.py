"""FLOPs of a step, and the matmul throughput of this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from openpali.processor import product_rate


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
