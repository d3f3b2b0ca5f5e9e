"""FLOPs, matmul throughput, precision and memory of this machine."""

from __future__ import annotations

import sys
import time

import pytest
import torch
import torch.nn.functional as F

from _report import resident
from openpali import processor
from openpali.processor import bf16_is_faster
from openpali.train.machine import (
    count_flops,
    kept_memory,
    matmul_peak,
    resolve_precision,
)


def test_matmuls_are_counted_forward_and_backward() -> None:
    a, b = torch.randn(5, 7, requires_grad=True), torch.randn(7, 11, requires_grad=True)
    assert count_flops(lambda: (a @ b).sum().backward()) == 3 * 2 * 5 * 7 * 11


def test_attention_is_counted() -> None:
    q, k, v = (torch.randn(2, 3, n, 16, requires_grad=True) for n in (10, 20, 20))
    product = 2 * (2 * 3 * 10 * 20 * 16)
    assert count_flops(lambda: F.scaled_dot_product_attention(q, k, v)) == 2 * product
    backward = count_flops(lambda: F.scaled_dot_product_attention(q, k, v).sum().backward())
    assert backward == pytest.approx(7 * product)  # 2 forward, 5 backward, which recomputes the scores


@pytest.mark.parametrize(("rate", "size"), [(1e12, 1024), (1e9, 256)], ids=["fast", "emulated"])
def test_the_peak_is_of_the_fastest_matmul(rate: float, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    class Matrix:
        products = 0

        def __init__(self, side: int) -> None:
            self.side = side
            Matrix.products = 0

        def __matmul__(self, other: Matrix) -> torch.Tensor:
            Matrix.products += 1
            waits = 1.0 if Matrix.products < 4 else 0.0  # prepares the kernel, then waits for the core
            clock[0] += waits + 2 * self.side**3 / rate * self.side / size  # the right size is the fastest
            return torch.zeros(1, 1)

    monkeypatch.setattr(torch, "randn", lambda *size, **options: Matrix(size[0]))
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    peak = matmul_peak(torch.device("cpu"), torch.float32, seconds=0.3)
    assert peak == pytest.approx(rate)
    assert clock[0] < 10


def test_precisions() -> None:
    cpu = torch.device("cpu")
    assert resolve_precision("bf16", cpu) is torch.bfloat16
    assert resolve_precision("fp32", cpu) is torch.float32


@pytest.mark.parametrize(
    ("native", "rates", "faster"), [(True, (2.0, 1.0), True), (True, (0.5, 1.0), False), (False, (), False)]
)
def test_a_cpu_multiplies_in_what_is_faster(
    monkeypatch: pytest.MonkeyPatch, native: bool, rates: tuple[float, ...], faster: bool
) -> None:
    known = dict(zip((torch.bfloat16, torch.float32), rates, strict=False))
    monkeypatch.setattr(processor, "multiplies_bf16", lambda device: native)
    # not timed without native products
    monkeypatch.setattr(processor, "product_rate", lambda device, dtype, *_: known[dtype])
    bf16_is_faster.cache_clear()
    try:
        assert bf16_is_faster(torch.device("cpu")) is faster
        assert resolve_precision("auto", torch.device("cpu")) is (torch.bfloat16 if faster else torch.float32)
    finally:
        bf16_is_faster.cache_clear()


def test_a_turn_in_which_another_process_holds_a_core_does_not_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {torch.bfloat16: [0.1, 4.0, 4.0], torch.float32: [1.0, 1.0, 0.1]}
    monkeypatch.setattr(processor, "multiplies_bf16", lambda device: True)
    monkeypatch.setattr(processor, "product_rate", lambda device, dtype, *_: rates[dtype].pop(0))
    bf16_is_faster.cache_clear()
    try:
        assert bf16_is_faster(torch.device("cpu"))
    finally:
        bf16_is_faster.cache_clear()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_freed_memory_is_kept_and_returned_in_the_end() -> None:
    cpu, size = torch.device("cpu"), 2**28

    def leave_behind() -> int:
        before = resident("VmRSS")
        _ = torch.ones(size, dtype=torch.uint8)
        del _
        return resident("VmRSS") - before

    with kept_memory(torch.device("cuda")):
        assert leave_behind() < size / 2
    with kept_memory(cpu):
        assert leave_behind() > size / 2
    assert leave_behind() < size / 2
