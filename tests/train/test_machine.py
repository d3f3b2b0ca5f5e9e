"""Counting the operations of a step, without touching them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from openpali.train.machine import count_flops, resolve_precision


def test_matrix_products_are_counted_forward_and_backward() -> None:
    a, b = torch.randn(5, 7, requires_grad=True), torch.randn(7, 11, requires_grad=True)
    assert count_flops(lambda: (a @ b).sum().backward()) == 3 * 2 * 5 * 7 * 11


def test_attention_is_counted() -> None:
    q, k, v = (torch.randn(2, 3, n, 16, requires_grad=True) for n in (10, 20, 20))
    product = 2 * (2 * 3 * 10 * 20 * 16)
    assert count_flops(lambda: F.scaled_dot_product_attention(q, k, v)) == 2 * product
    backward = count_flops(lambda: F.scaled_dot_product_attention(q, k, v).sum().backward())
    assert backward == pytest.approx(7 * product)  # 2 forward, 5 backward: the scores are computed again


def test_precisions() -> None:
    cpu = torch.device("cpu")
    assert resolve_precision("bf16", cpu) is torch.bfloat16
    assert resolve_precision("fp32", cpu) is torch.float32
    assert resolve_precision("auto", cpu) in (torch.bfloat16, torch.float32)
