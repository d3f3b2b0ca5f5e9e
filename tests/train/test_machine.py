"""Counting the operations of a step, without touching them."""

from __future__ import annotations

import sys
import time

import pytest
import torch
import torch.nn.functional as F

from openpali.model.attention import spelled_out
from openpali.model.init import init_weights
from openpali.model.vit import Block
from openpali.train.machine import (
    count_flops,
    kept_memory,
    matmul_peak,
    quick_attention,
    resident_memory,
    resolve_precision,
)


def test_matrix_products_are_counted_forward_and_backward() -> None:
    a, b = torch.randn(5, 7, requires_grad=True), torch.randn(7, 11, requires_grad=True)
    assert count_flops(lambda: (a @ b).sum().backward()) == 3 * 2 * 5 * 7 * 11


def test_attention_is_counted() -> None:
    q, k, v = (torch.randn(2, 3, n, 16, requires_grad=True) for n in (10, 20, 20))
    product = 2 * (2 * 3 * 10 * 20 * 16)
    assert count_flops(lambda: F.scaled_dot_product_attention(q, k, v)) == 2 * product
    backward = count_flops(lambda: F.scaled_dot_product_attention(q, k, v).sum().backward())
    assert backward == pytest.approx(7 * product)  # 2 forward, 5 backward: the scores are computed again


def test_the_peak_is_not_that_of_the_first_product(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    class Matrix:
        products = 0

        def __matmul__(self, other: Matrix) -> torch.Tensor:
            Matrix.products += 1
            clock[0] += 100.0 if Matrix.products == 1 else 1.0  # its kernel has to be made
            return torch.zeros(1, 1)

    monkeypatch.setattr(torch, "randn", lambda *size, **options: Matrix())
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    assert matmul_peak(torch.device("cpu"), torch.float32, seconds=0.3) == 2 * 1024**3


def test_precisions() -> None:
    cpu = torch.device("cpu")
    assert resolve_precision("bf16", cpu) is torch.bfloat16
    assert resolve_precision("fp32", cpu) is torch.float32
    assert resolve_precision("auto", cpu) in (torch.bfloat16, torch.float32)


@pytest.mark.parametrize("masked", ["", "keys", "bias"])
def test_quick_attention_is_attention_forward_and_backward(masked: str) -> None:
    torch.manual_seed(0)
    tensors = [torch.randn(2, 3, n, 8, requires_grad=True) for n in (10, 20, 20)]
    mask, options = None, {}
    if masked == "keys":
        mask = torch.rand(2, 1, 1, 20) > 0.3
    elif masked:
        tensors.append(torch.randn(1, 3, 10, 20, requires_grad=True))
        options = {"scale": 1.0}
    out_gradient = torch.randn(2, 3, 10, 8)

    def run() -> list[torch.Tensor]:
        q, k, v, *bias = (t.bfloat16() for t in tensors)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[0] if bias else mask, **options)
        return [out.float(), *torch.autograd.grad(out, tensors, out_gradient.bfloat16())]

    expected, fused = run(), F.scaled_dot_product_attention
    with quick_attention(torch.device("cpu"), torch.bfloat16):
        assert F.scaled_dot_product_attention is not fused
        found = run()
    assert F.scaled_dot_product_attention is fused
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=0.05, rtol=0.05)


def test_quick_attention_can_be_compiled() -> None:
    torch.manual_seed(0)
    block, x = init_weights(Block(width=16, mlp_dim=32, heads=2)), torch.randn(2, 5, 16)
    with quick_attention(torch.device("cpu"), torch.bfloat16):
        torch.testing.assert_close(torch.compile(block.forward, backend="eager")(x), block(x))


def test_quick_attention_leaves_float32_gpus_and_many_tokens_to_fused_kernels(monkeypatch) -> None:
    fused = F.scaled_dot_product_attention
    for device, dtype in (("cpu", torch.float32), ("cuda", torch.bfloat16)):
        with quick_attention(torch.device(device), dtype):
            assert F.scaled_dot_product_attention is fused
    calls = []
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, k, v, **_: calls.append(k.shape[1]) or v)
    with quick_attention(torch.device("cpu"), torch.bfloat16):
        for tokens in (256, 257):
            x = torch.randn(1, tokens, 4, dtype=torch.bfloat16)
            F.scaled_dot_product_attention(x, x, x)
        mask = torch.zeros(tokens, tokens, dtype=torch.bfloat16)
        F.scaled_dot_product_attention(x, x, x, attn_mask=mask)
        F.scaled_dot_product_attention(x, x, x, attn_mask=mask.requires_grad_())
    assert calls == [257, 257]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_freed_memory_stays_with_the_process_and_goes_back_in_the_end() -> None:
    cpu, size = torch.device("cpu"), 2**28

    def leave_behind() -> int:
        before = resident_memory()
        _ = torch.ones(size, dtype=torch.uint8)
        del _
        return resident_memory() - before

    with kept_memory(torch.device("cuda")):
        assert leave_behind() < size / 2
    with kept_memory(cpu):
        assert leave_behind() > size / 2
    assert leave_behind() < size / 2


@pytest.mark.parametrize("bias", [False, True])
def test_a_query_that_may_see_no_key_gets_zeros_and_gives_no_nan(bias: bool) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 5, 8, requires_grad=True) for _ in range(3))
    seen = torch.tensor([True, False])[:, None, None, None].expand(2, 1, 1, 5)
    mask = torch.zeros(2, 3, 5, 5).masked_fill(~seen, -torch.inf) if bias else seen
    out, weights = spelled_out(q, k, v, mask)
    torch.testing.assert_close(out, F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
    assert (out[1] == 0).all()
    assert (weights[1] == 0).all()
    out.sum().backward()
    assert all(t.grad is not None and t.grad.isfinite().all() for t in (q, k, v))
