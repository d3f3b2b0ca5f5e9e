"""Attention in parts is attention."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

import openpali.model.attention as attention_module
from openpali.interop.transformers.attention import EagerAttention
from openpali.model.attention import attention


def _inputs(rows: int, queries: int, keys: int) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    return tuple(torch.randn(rows, 3, length, 8).bfloat16() for length in (queries, keys, keys))


def _masks(rows: int, queries: int, keys: int) -> dict[str, torch.Tensor | None]:
    seen = torch.rand(rows, 1, 1, keys) < 0.5
    seen[..., 0] = True
    bias = torch.randn(1, 3, queries, keys).bfloat16()
    return {"none": None, "bool": seen, "bias": bias, "bias, masked": bias.masked_fill(~seen, -math.inf)}


@pytest.mark.parametrize("queries", [1, 5, 40])
def test_bf16_without_gradients_is_spelled_out_and_the_same(queries: int, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(
        attention_module,
        "spelled_out",
        lambda *args, real=attention_module.spelled_out: calls.append(1) or real(*args),
    )
    q, k, v = _inputs(2, queries, 40)
    for mask in _masks(2, queries, 40).values():
        with torch.inference_mode():
            ours = attention(q, k, v, mask, 1.0)
        exact = F.scaled_dot_product_attention(
            q.float(),
            k.float(),
            v.float(),
            mask if mask is None or mask.dtype == torch.bool else mask.float(),
            scale=1.0,
        )
        torch.testing.assert_close(ours.float(), exact, rtol=0, atol=0.05)
    assert len(calls) == 4
    attention(q, k, v)  # learns: the trainer decides
    with torch.inference_mode():
        attention(*(each.float() for each in (q, k, v)))
        attention(*_inputs(1, 300, 300))
    assert len(calls) == 4


def test_who_listens_to_torch_hears_of_it() -> None:
    weights: list[torch.Tensor] = []
    with torch.inference_mode(), EagerAttention(weights):
        attention(*_inputs(1, 2, 5))
    assert [list(each.shape) for each in weights] == [[1, 3, 2, 5]]
