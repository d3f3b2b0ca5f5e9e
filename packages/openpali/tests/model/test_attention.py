"""Every backend computes attention; which one runs is the model owner's choice."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from openpali.architectures.siglip.architecture import PRESETS as SIGLIP
from openpali.architectures.siglip.network import SigLIP
from openpali.model import attention
from openpali.model.attention import (
    AttentionLayer,
    Scoring,
    attend_with_bias,
    auto,
    blockwise,
    eager,
    sdpa,
    set_attention,
)
from openpali.model.init import init_weights


def _inputs(rows: int, queries: int, keys: int) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    return tuple(torch.randn(rows, 3, length, 8).bfloat16() for length in (queries, keys, keys))


def _masks(rows: int, queries: int, keys: int) -> list[tuple[Tensor | None, Tensor | None]]:
    """Pairs of mask and bias."""
    seen = torch.rand(rows, 1, 1, keys) < 0.5
    seen[..., 0] = True
    bias = torch.randn(1, 3, queries, keys).bfloat16()
    return [(None, None), (seen, None), (None, bias), (seen, bias), (None, bias.masked_fill(~seen, -math.inf))]


def _exact(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, bias: Tensor | None) -> Tensor:
    """By torch's own attention in float32, with one mask."""
    both = mask if bias is None else bias.float()
    if mask is not None and bias is not None:
        both = both.masked_fill(~mask, -math.inf)
    return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), both, scale=1.0)


def _fused_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of keys of each call of torch's fused attention from here on."""
    calls: list[int] = []
    fused = F.scaled_dot_product_attention

    def count(q: Tensor, k: Tensor, v: Tensor, **options: object) -> Tensor:
        calls.append(k.shape[-2])
        return fused(q, k, v, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", count)
    return calls


@pytest.mark.parametrize("backend", [auto, eager, blockwise, sdpa])
@pytest.mark.parametrize("queries", [1, 5, 40])
def test_backends_in_bf16_agree_with_float32(backend, queries: int) -> None:
    q, k, v = _inputs(2, queries, 40)
    for mask, bias in _masks(2, queries, 40):
        with torch.inference_mode():
            ours = backend(q, k, v, Scoring(mask, 1.0, bias))
        torch.testing.assert_close(ours.float(), _exact(q, k, v, mask, bias), rtol=0, atol=0.05)


@pytest.mark.parametrize("masked", ["", "keys", "bias", "keys and bias"])
def test_eager_and_fused_agree_forward_and_backward(masked: str) -> None:
    torch.manual_seed(0)
    tensors = [torch.randn(2, 3, n, 8, requires_grad=True) for n in (10, 20, 20)]
    mask, scale = None, None
    if "keys" in masked:
        mask = torch.rand(2, 1, 1, 20) > 0.3
    if "bias" in masked:
        tensors.append(torch.randn(1, 3, 10, 20, requires_grad=True))
        scale = 1.0
    out_gradient = torch.randn(2, 3, 10, 8)

    def run(backend, dtype: torch.dtype) -> list[Tensor]:
        q, k, v, *bias = (t.to(dtype) for t in tensors)
        out = backend(q, k, v, Scoring(mask, scale, bias[0] if bias else None))
        return [out.float(), *torch.autograd.grad(out, tensors, out_gradient.to(dtype))]

    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.05)):
        for a, b in zip(run(eager, dtype), run(sdpa, dtype), strict=True):
            torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)
    for a, b in zip(run(auto, torch.bfloat16), run(eager, torch.bfloat16), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(run(auto, torch.float32), run(sdpa, torch.float32), strict=True):
        assert torch.equal(a, b)


def test_auto_is_eager_in_bf16_on_a_cpu_for_few_scores_or_a_bias_that_learns(monkeypatch) -> None:
    fused = _fused_calls(monkeypatch)
    for tokens in (256, 257):
        x = torch.randn(1, 1, tokens, 4, dtype=torch.bfloat16)
        auto(x, x, x)
    bias = torch.zeros(tokens, tokens, dtype=torch.bfloat16)
    auto(x, x, x, Scoring(bias=bias))
    auto(x, x, x, Scoring(bias=bias.requires_grad_()))
    assert fused == [257, 257]
    with torch.no_grad():
        auto(x, x, x)
    x = x[:, :, :9].float()
    auto(x, x, x)
    auto(*(t.to("meta") for t in _inputs(1, 2, 5)))  # as on a GPU: not on a CPU
    assert fused == [257, 257, 9, 5]


@pytest.mark.parametrize("cached", [1, 2 * 11 * 8, 3 * 3 * 11 * 8])
def test_blockwise_is_eager_a_block_at_a_time(cached: int, monkeypatch) -> None:
    monkeypatch.setattr(attention, "CACHED", cached)
    monkeypatch.setattr(attention, "FEWEST_ROWS", 2)
    monkeypatch.setattr(attention, "MOST_ROWS", 11)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    q, k, v = (t.double() for t in _inputs(5, 30, 8))
    sizes = list[tuple[int, ...]]()
    shift = attention._shift

    def note(scores: Tensor, how: Scoring) -> Tensor:
        sizes.append(tuple(scores.shape[:3]))
        return shift(scores, how)

    for mask, bias in _masks(5, 30, 8):
        for cap in (None, 2.0):
            how = Scoring(mask, 0.7, None if bias is None else bias.double(), cap)
            expected = eager(q, k, v, how)
            with monkeypatch.context() as patch, torch.inference_mode():
                patch.setattr(attention, "_shift", note)
                torch.testing.assert_close(blockwise(q, k, v, how), expected)
    largest = {1: (1, 1, 2), 2 * 11 * 8: (1, 2, 11), 3 * 3 * 11 * 8: (3, 3, 11)}[cached]
    assert tuple(max(each) for each in zip(*sizes, strict=True)) == largest


@pytest.mark.parametrize("causal", [False, True])
def test_bias_per_distance_is_that_per_query_and_key(causal: bool) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 8) for n in (4, 9, 9))
    bias = torch.randn(3, 9 + 4 - 1)
    mask = torch.rand(2, 1, 1, 9) > 0.2
    full = torch.tensor(
        [[[bias[h, key - (query + 5) + 8] for key in range(9)] for query in range(4)] for h in range(3)]
    )
    seen = torch.ones(4, 9, dtype=torch.bool).tril(5) if causal else torch.ones(4, 9, dtype=torch.bool)
    expected = eager(q, k, v, Scoring(mask & seen, 1.0, full[None]))
    for backend in (eager, sdpa, auto):
        torch.testing.assert_close(attend_with_bias(backend, q, k, v, bias, mask, causal), expected)


@pytest.mark.parametrize("bias", [False, True])
def test_a_query_that_may_see_no_key_gets_zeros_and_gives_no_nan(bias: bool) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 5, 8, requires_grad=True) for _ in range(3))
    seen = torch.tensor([True, False])[:, None, None, None].expand(2, 1, 1, 5)
    added = torch.randn(1, 3, 5, 5) if bias else None
    how = Scoring(seen, 1.0, added)
    out = eager(q, k, v, how)
    torch.testing.assert_close(out, _exact(q, k, v, seen, added))
    assert (out[1] == 0).all()
    out.sum().backward()
    assert all(t.grad is not None and t.grad.isfinite().all() for t in (q, k, v))


def test_every_attention_of_a_model_takes_the_backend_that_is_set() -> None:
    torch.manual_seed(0)
    model, calls = init_weights(SigLIP(SIGLIP["pico"])).eval(), []

    def count(*args: Any) -> Tensor:
        calls.append(1)
        return sdpa(*args)

    images, ids = torch.zeros(1, 72, 72, 3), torch.ones(1, model.text.config.length, dtype=torch.long)
    expected, keys = model(images, ids), list(model.state_dict())
    set_attention(model, count)
    found = model(images, ids)
    layers = [m for m in model.modules() if isinstance(m, AttentionLayer)]
    assert len(calls) == len(layers) == model.config.vision.depth + 1 + model.config.text.depth
    assert torch.equal(found.image, expected.image)
    assert list(model.state_dict()) == keys
    assert all(m.attend is not count for m in SigLIP(SIGLIP["pico"]).modules() if hasattr(m, "attend"))
