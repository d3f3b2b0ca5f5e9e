"""Linear layers with int8 weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from openpali.architectures.pali import PRESETS, PaliModel
from openpali.model.init import init_weights
from openpali.model.int8 import (
    FEW_ROWS,
    ROUNDED_ROWS,
    Int8Linear,
    TiedEmbedding,
    compute_in_int8,
    quantize,
    use_int8,
)
from openpali.model.layers import Embedding
from tiny_gemma import KINDS


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6))
def test_rounding_moves_no_weight_by_more_than_half_a_step(seed: int, size: float) -> None:
    weight = torch.randn(5, 7, generator=torch.Generator().manual_seed(seed)) * size
    small, scale = quantize(weight)
    assert small.dtype == torch.int8
    assert small.abs().max() == 127  # nothing of the range is wasted
    assert ((small * scale[:, None] - weight).abs() <= scale[:, None] * 0.501).all()


@pytest.mark.parametrize("rows", [1, 3, FEW_ROWS, FEW_ROWS + 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("inputs", "bias"), [(64, True), (64, False), (40, True)])  # torch's kernel cannot take 40
def test_the_same_product_by_either_kernel(rows: int, dtype: torch.dtype, inputs: int, bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(inputs, 32, bias)
    small = Int8Linear(inputs, 32, bias)
    small.weight, small.scale = quantize(linear.weight.detach())
    if bias:
        small.bias = linear.bias.detach()
    x = torch.randn(rows, 2, inputs).to(dtype)
    exact = torch.nn.functional.linear(x.double(), (small.weight * small.scale[:, None]).double())
    exact = exact if small.bias is None else exact + small.bias.double()
    y = small(x)
    assert y.shape == (rows, 2, 32)
    assert y.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(y.double(), exact, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(y.double(), linear(x.float()).double(), atol=3e-2, rtol=3e-2)


def test_tokens_that_are_generated_are_not_rounded_however_many_rows() -> None:
    model = nn.Sequential(nn.Linear(40, 32))
    compute_in_int8(model)
    x_B1D = torch.randn(2 * FEW_ROWS, 1, 40)
    with torch.no_grad():
        torch.testing.assert_close(model(x_B1D)[:1], model(x_B1D[:1]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [FEW_ROWS + 1, 2 * ROUNDED_ROWS + 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations_of_many_rows_are_rounded_when_told(rows: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(40, 32)
    model = nn.Sequential(linear)
    compute_in_int8(model)
    x = torch.randn(rows, 40).to(dtype) * torch.logspace(-6, 6, rows)[:, None].to(dtype)
    x[1] = 0
    x[2] = x[2].sign() * 3.1  # the whole row is its largest value
    exact = linear(x.float())
    with torch.no_grad():
        y = model(x)
        few = model(x[:FEW_ROWS])
    assert y.dtype == dtype
    errors = (y.float() - exact).norm(dim=1) / exact.norm(dim=1)
    assert 0 < errors.max() < 0.03
    weights_alone = use_weights_alone(linear, x)
    torch.testing.assert_close(few.float(), weights_alone[:FEW_ROWS], rtol=2e-2, atol=2e-2)
    learning = model(x.requires_grad_())
    torch.testing.assert_close(learning.float(), weights_alone, rtol=2e-2, atol=2e-2 * exact.abs().max().item())


def use_weights_alone(linear: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    weight, scale = quantize(linear.weight.detach())
    return nn.functional.linear(x.float(), weight * scale[:, None], linear.bias).detach()


def test_every_linear_layer_is_replaced_and_nothing_else() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 1, bias=False)))
    assert use_int8(model) == ["0", "1.1"]
    assert [type(m) for m in (model[0], model[1][0], model[1][1])] == [Int8Linear, nn.LayerNorm, Int8Linear]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tied_embedding_embeds_and_scores_with_the_same_int8_rows(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    embed = init_weights(TiedEmbedding(20, 32))
    exact = embed.weight.detach().clone()
    model = nn.ModuleDict({"embed": embed, "positions": Embedding(5, 32)})
    assert use_int8(model) == ["embed"]
    weight, scale = quantize(exact)
    embed.load_state_dict({"weight": weight, "scale": scale.to(dtype)}, assign=True)
    ids = torch.tensor([[0, 19], [3, 3]])
    rows = embed(ids)
    assert rows.dtype == dtype
    assert torch.equal(rows.float(), (weight[ids].to(dtype) * scale[ids][..., None].to(dtype)).float())
    hidden = torch.randn(2, 3, 32).to(dtype)
    assert embed.logits(hidden).dtype == dtype
    tolerance = 1e-4 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(
        embed.logits(hidden).float(), hidden.float() @ embed.matrix.float().T, atol=10 * tolerance, rtol=tolerance
    )
    assert (embed.matrix - exact).abs().max() < exact.abs().max() / 127
    again = nn.ModuleDict({"embed": TiedEmbedding(20, 32)})
    again["embed"].load_state_dict({"weight": exact})
    compute_in_int8(again.to(dtype))
    assert again["embed"](ids).dtype == dtype
    weight = again["embed"].weight
    compute_in_int8(again)  # what is int8 stays
    assert torch.equal(again["embed"].weight, weight)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_gemma_computes_in_int8(kind: str) -> None:
    """Images and a prompt of enough rows that activations are rounded, and then a token."""
    torch.manual_seed(0)
    model, exact = init_weights(KINDS[kind]()).eval(), KINDS[kind]().eval()
    exact.load_state_dict(model.state_dict())
    compute_in_int8(model)
    assert all(module.rounds for module in model.modules() if isinstance(module, Int8Linear))
    assert not any(isinstance(module, nn.Linear) for module in model.modules())
    images, prompt = torch.rand(2, 1, 8, 8, 3) * 2 - 1, torch.randint(7, 50, (2, FEW_ROWS))
    with torch.inference_mode():
        states = [each.start(each.encode(images, prompt), 1) for each in (model, exact)]
        said, wanted = (
            each.step(torch.full((2, 1), 9), state) for each, state in zip((model, exact), states, strict=True)
        )
    assert 0 < (said - wanted).norm() < 0.2 * wanted.norm()  # a width of 16 rounds coarsely


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_int8_model_sees_what_the_float_model_sees(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    config = PRESETS["pico"]
    model = init_weights(PaliModel(config)).eval()
    small = PaliModel(config).eval()
    weights = model.state_dict()
    for name in use_int8(small):
        weights[f"{name}.weight"], weights[f"{name}.scale"] = quantize(weights[f"{name}.weight"])
    small.load_state_dict({k: v if v.dtype == torch.int8 else v.to(dtype) for k, v in weights.items()}, assign=True)
    images = torch.randint(0, 256, (2, 1, 72, 72, 3), dtype=torch.uint8)
    prompt = torch.randint(2, 1024, (2, 5))
    with torch.inference_mode():
        seen, expected = small.embed_images(images), model.embed_images(images)
        said, wanted = (
            m.step(torch.zeros(2, 1, dtype=torch.long), m.start(m.encode(images, prompt), 1))
            for m in (small, model)
        )
    assert seen.dtype == dtype
    assert (seen[0] - seen[1]).abs().max() > 0.1 * seen.abs().max()
    for got, exact in ((seen, expected), (said, wanted)):
        assert (got - exact).norm() < 0.05 * exact.norm()
