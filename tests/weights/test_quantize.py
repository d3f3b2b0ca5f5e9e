"""Model folders with int8 linear layers."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from openpali.architectures.facts import Facts
from openpali.architectures.pali import PRESETS
from openpali.architectures.registry import build
from openpali.lab.sizes import describe
from openpali.model.init import materialise
from openpali.tensors import WEIGHTS
from openpali.weights.bundle import pack_bundle
from openpali.weights.format import open_model
from openpali.weights.quantize import write_int8
from openpali.weights.transplant import transplant
from openpali.weights.write import write_model

from .folders import CONFIGS, write


@pytest.mark.parametrize("kind", CONFIGS)
def test_int8_models_are_close_to_the_original(tmp_path, tokenizer, kind: str) -> None:
    torch.manual_seed(0)
    model = materialise(build(CONFIGS[kind]))
    source, out = tmp_path / "float", tmp_path / "int8"
    write_model(
        source, model.state_dict(), CONFIGS[kind], preprocess=None, tokenizer=tokenizer, facts=Facts(run="x")
    )
    write_int8(open_model(source), out)
    opened = open_model(out)
    assert opened.facts == Facts(run="x", int8=True)
    assert opened.tokenizer.proto == tokenizer.proto
    restored = opened.model().state_dict()
    for name, weight in model.state_dict().items():
        value = restored[name]
        if value.dtype == torch.int8:
            value = value * restored[name.removesuffix("weight") + "scale"][:, None]
        torch.testing.assert_close(value.float(), weight.float(), atol=weight.abs().max().item() / 100, rtol=1e-2)
    small = [name for name, value in restored.items() if value.dtype == torch.int8]
    assert bool(small) == any(isinstance(m, torch.nn.Linear) for m in model.modules())
    wide = {name: widened(restored, name) for name in model.state_dict()}
    weights = opened.weights()
    assert list(weights) == list(open_model(source).weights())
    assert all(torch.equal(weights[name].float(), wide[name]) for name in weights)
    floats = opened.model(plain=True).state_dict()
    assert all(torch.equal(floats[name], wide[name]) for name in floats)
    with pytest.raises(ValueError):
        write_int8(opened, tmp_path / "again")


def test_sizes_prints_the_bytes_that_quantize_writes(tmp_path, tokenizer) -> None:
    preset = PRESETS["pico"]
    with_int8 = describe(preset)["bytes"]["int8"]
    model = materialise(build(preset))
    write_model(tmp_path / "float", model.state_dict(), preset, preprocess=None, tokenizer=tokenizer)
    write_int8(open_model(tmp_path / "float"), tmp_path / "int8")
    assert sum(tensor.nbytes for tensor in load_file(tmp_path / "int8" / WEIGHTS).values()) == with_int8


def widened(weights: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    """A tensor as float32, times its scales where it is int8."""
    value = weights[name]
    scale = weights[name.removesuffix("weight") + "scale"][:, None] if value.dtype == torch.int8 else 1
    return value.float() * scale


def test_int8_models_are_packed_and_transplanted_as_floats(tmp_path, tokenizer) -> None:
    write(tmp_path / "float", "pali", tokenizer)
    write_int8(open_model(tmp_path / "float"), tmp_path / "int8")
    expected = open_model(tmp_path / "int8").model(plain=True).state_dict()
    description = tmp_path / "bundle.toml"
    description.write_text(f'[parts]\npali = "{tmp_path / "int8"}"\n')
    pack_bundle(description, tmp_path / "bundle")
    packed = open_model(tmp_path / "bundle" / "pali")
    assert packed.facts == Facts()
    for name, value in packed.model().state_dict().items():
        assert torch.equal(value, expected[name].to(torch.bfloat16).float())
    model = materialise(build(CONFIGS["pali"]))
    transplant(model, "text", str(tmp_path / "int8"))
    assert torch.equal(model.text.head.weight, expected["text.head.weight"])
