"""Linear layers with int4 weights in groups."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from openpali.architectures.pali import PRESETS, PaliModel
from openpali.architectures.registry import build
from openpali.model import int8
from openpali.model.init import init_weights
from openpali.model.int4 import GROUPS, Int4Linear, pack, quantize, unpack, use_quantized, widen
from openpali.model.int8 import FEW_ROWS, Int8Linear

SHAPES = st.tuples(st.integers(0, 5), st.integers(0, 9).map(lambda half: 2 * half))


@given(arrays(np.int8, SHAPES, elements=st.integers(-8, 7)))
def test_what_is_packed_is_unpacked(values: np.ndarray) -> None:
    packed = pack(torch.from_numpy(values))
    assert packed.dtype == torch.uint8
    assert packed.shape == (values.shape[0], values.shape[1] // 2)
    assert np.array_equal(unpack(packed).numpy(), values)
    assert np.array_equal(unpack(packed, torch.bfloat16).float().numpy(), values)


def test_the_first_of_two_is_in_the_lower_half() -> None:
    """As OpenVINO's i4, which shares the stored bytes."""
    assert pack(torch.tensor([[-8, 7, 1, -1]], dtype=torch.int8)).tolist() == [[0x78, 0xF1]]


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6), st.sampled_from(GROUPS))
def test_rounding_is_nearer_than_to_seven_steps_a_side(seed: int, size: float, group: int) -> None:
    weight = torch.randn(5, 2 * group, generator=torch.Generator().manual_seed(seed)) * size
    packed, scale = quantize(weight, group)
    assert (packed.shape, scale.shape) == ((5, group), (5, 2))
    assert torch.equal(scale, scale.bfloat16().float())
    groups = weight.unflatten(1, (2, group))
    steps = (groups.abs().amax(-1, keepdim=True) / 7).bfloat16().float()
    plain = (groups / steps).round() * steps
    error = (widen(packed, scale).unflatten(1, (2, group)) - groups).norm(dim=-1)
    assert (error <= 1.01 * (plain - groups).norm(dim=-1)).all()


def test_groups_of_zeros_stay_zero() -> None:
    weight = torch.zeros(2, 64)
    weight[1, 40] = 3
    packed, scale = quantize(weight, 32)
    assert torch.equal(scale, scale.bfloat16().float())
    wide = widen(packed, scale)
    assert torch.equal(wide != 0, weight != 0)
    assert wide.isfinite().all()


@pytest.mark.parametrize("rows", [1, 3, FEW_ROWS, FEW_ROWS + 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("inputs", "outputs", "bias", "group"),
    [(128, 48, True, 128), (96, 1024 + 64, False, 32), (64, 20, True, 64)],  # torch's kernel makes 32
)
def test_the_same_product_by_either_kernel(
    rows: int, dtype: torch.dtype, inputs: int, outputs: int, bias: bool, group: int
) -> None:
    torch.manual_seed(0)
    layer = filled(inputs, outputs, bias, group)
    x = torch.randn(rows, 2, inputs).to(dtype)
    exact = nn.functional.linear(
        x.double(), layer.matrix.double(), layer.bias if layer.bias is None else layer.bias.double()
    )
    with torch.no_grad():
        y = layer(x)
    assert (y.shape, y.dtype) == ((rows, 2, outputs), dtype)
    assert (layer._kernel is not None) == (dtype == torch.bfloat16 and 2 * rows <= FEW_ROWS)
    assert (y.double() - exact).norm() < (1e-6 if dtype == torch.float32 else 5e-3) * exact.norm()


def filled(inputs: int, outputs: int, bias: bool, group: int) -> Int4Linear:
    linear = nn.Linear(inputs, outputs, bias)
    layer = Int4Linear(inputs, outputs, bias, group)
    layer.weight, layer.scale = quantize(linear.weight.detach(), group)
    if linear.bias is not None:
        layer.bias = linear.bias.detach()
    return layer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_those_of_the_floats(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = filled(64, 16, True, 32)
    x, same = (
        torch.randn(3, 64, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_() for _ in "xy"
    )
    layer(x).square().sum().backward()
    nn.functional.linear(same, layer.matrix.to(dtype), layer.bias.to(dtype)).square().sum().backward()
    torch.testing.assert_close(x.grad, same.grad, rtol=2e-2, atol=2e-2 if dtype == torch.bfloat16 else 1e-5)


def test_layers_of_the_language_model_are_int4_where_a_group_fits() -> None:
    model = build(PRESETS["nano"])
    names = use_quantized(model, 128)
    assert {name.partition(".")[0] for name in names} == {"vit", "project", "text"}
    assert [name for name in names if name.startswith("text.")] == ["text.head"]
    groups = {name: m.group for name, m in model.named_modules() if isinstance(m, Int4Linear)}
    assert groups["text.encoder.0.attention.qkv"] == 64  # of 192 inputs
    assert groups["text.decoder.2.ff.down"] == 128  # of 512
    assert not any(isinstance(module, nn.Linear) for module in model.modules())
    narrow = build(PRESETS["pico"])
    narrow.text.decoder[0].ff.down = nn.Linear(48, 5)  # 32 does not divide it
    assert "text.decoder.0.ff.down" in use_quantized(narrow, 128)
    assert isinstance(narrow.text.decoder[0].ff.down, Int8Linear)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_int4_model_computes_what_its_floats_compute(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    config = PRESETS["pico"]
    floats, narrow = init_weights(PaliModel(config)).eval(), PaliModel(config).eval()
    use_quantized(narrow, 32)
    weights, stored = floats.state_dict(), {}
    for name, module in narrow.named_modules():
        if isinstance(module, Int4Linear):
            stored[f"{name}.weight"], stored[f"{name}.scale"] = quantize(weights[f"{name}.weight"], module.group)
            weights[f"{name}.weight"] = widen(stored[f"{name}.weight"], stored[f"{name}.scale"])
        elif isinstance(module, Int8Linear):
            stored[f"{name}.weight"], stored[f"{name}.scale"] = int8.quantize(weights[f"{name}.weight"])
            weights[f"{name}.weight"] = int8.widen(stored[f"{name}.weight"], stored[f"{name}.scale"])
    assert any(tensor.dtype == torch.uint8 for tensor in stored.values())
    floats.load_state_dict(weights)
    stored = {name: stored.get(name, weights.get(name)) for name in narrow.state_dict()}
    narrow.load_state_dict({k: v.to(dtype) if v.is_floating_point() else v for k, v in stored.items()}, assign=True)
    images, prompt = torch.randint(0, 256, (2, 1, 72, 72, 3), dtype=torch.uint8), torch.randint(2, 1024, (2, 5))
    with torch.inference_mode():
        said, wanted = (
            m.step(torch.zeros(2, 1, dtype=torch.long), m.start(m.encode(images, prompt), 1))
            for m in (narrow, floats)
        )
    assert (said.float() - wanted).norm() < (1e-5 if dtype == torch.float32 else 3e-2) * wanted.norm()
