"""Linear layers with int8 weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from openpali.model.int8 import FEW_ROWS, Int8Linear, quantize, use_int8


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6))
def test_rounding_moves_no_weight_by_more_than_half_a_step(seed: int, size: float) -> None:
    weight = torch.randn(5, 7, generator=torch.Generator().manual_seed(seed)) * size
    small, scale = quantize(weight)
    assert small.dtype == torch.int8
    assert small.abs().max() == 127  # nothing of the range is wasted
    assert ((small * scale[:, None] - weight).abs() <= scale[:, None] * 0.501).all()


def test_rows_of_zeros_stay_zero() -> None:
    small, scale = quantize(torch.zeros(2, 3))
    assert (small == 0).all()
    assert scale.isfinite().all()


@pytest.mark.parametrize("rows", [1, 3, FEW_ROWS, FEW_ROWS + 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_the_same_product_by_either_kernel(rows: int, dtype: torch.dtype, bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(64, 32, bias)
    small = Int8Linear(64, 32, bias)
    small.weight, small.scale = quantize(linear.weight.detach())
    if bias:
        small.bias = linear.bias.detach()
    x = torch.randn(rows, 2, 64).to(dtype)
    exact = torch.nn.functional.linear(x.double(), (small.weight * small.scale[:, None]).double())
    exact = exact if small.bias is None else exact + small.bias.double()
    y = small(x)
    assert y.shape == (rows, 2, 32)
    assert y.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(y.double(), exact, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(y.double(), linear(x.float()).double(), atol=3e-2, rtol=3e-2)


def test_every_linear_layer_is_replaced_and_nothing_else() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 1, bias=False)))
    assert use_int8(model) == ["0", "1.1"]
    assert [type(m) for m in (model[0], model[1][0], model[1][1])] == [Int8Linear, nn.LayerNorm, Int8Linear]
