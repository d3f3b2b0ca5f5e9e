"""FLOPs of a step, and the matmul throughput of this machine."""

from __future__ import annotations

import time

import pytest
import torch
import torch.nn.functional as F

from openpali_lab.plan.flops import count_flops, matmul_peak


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
