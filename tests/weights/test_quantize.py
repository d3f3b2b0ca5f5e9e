"""Model folders with int8 and int4 linear layers."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from openpali.architectures.facts import Facts
from openpali.architectures.pali import PRESETS
from openpali.architectures.registry import build
from openpali.model.init import materialise
from openpali.tensors import WEIGHTS
from openpali.weights.bundle import pack_bundle
from openpali.weights.format import open_model
from openpali.weights.quantize import write_int4, write_int8
from openpali.weights.transplant import transplant
from openpali.weights.write import write_model
from openpali_lab.sizes import describe
from weights.folders import CONFIGS, write


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
    for write_again in (write_int8, write_int4):
        with pytest.raises(
            ValueError, match=r"int8 weights already: quantize the model that it was made of|take --bits"
        ):
            write_again(opened, tmp_path / "again")


def test_int4_models_are_close_to_the_original(tmp_path, tokenizer) -> None:
    write(tmp_path / "float", "pali", tokenizer, run="x")
    write_int4(open_model(tmp_path / "float"), tmp_path / "int4", 64)
    opened = open_model(tmp_path / "int4")
    assert opened.facts == Facts(run="x", int8=True, int4=64)
    assert opened.lasting_facts == Facts(run="x")
    stored, exact = opened.stored(), open_model(tmp_path / "float").weights()
    kinds = {name: tensor.dtype for name, tensor in stored.items()}
    by_part = {part: {kind for name, kind in kinds.items() if name.startswith(part)} for part in ("vit.", "text.")}
    assert torch.int8 in by_part["vit."]
    assert torch.uint8 not in by_part["vit."]
    assert [name for name, kind in kinds.items() if name.startswith("text.") and kind == torch.int8] == [
        "text.head.weight"
    ]
    assert stored["text.decoder.0.ff.down.weight"].shape == (32, 64 // 2)
    assert stored["text.decoder.0.ff.down.scale"].shape == (32, 1)
    assert kinds["text.decoder.0.ff.down.scale"] == torch.bfloat16
    assert kinds["text.embed.weight"] == torch.bfloat16
    weights = opened.weights()
    assert list(weights) == list(exact)
    for name, weight in exact.items():
        assert (weights[name].float() - weight).norm() <= (
            0.15 if kinds[name] == torch.uint8 else 0.01
        ) * weight.norm()
    floats = opened.model(plain=True).state_dict()
    assert all(torch.equal(floats[name], weights[name].float()) for name in floats)
    narrow = opened.model(torch.bfloat16)
    assert narrow.state_dict()["text.decoder.0.ff.down.weight"].dtype == torch.uint8
    for write_again in (write_int8, write_int4):
        with pytest.raises(ValueError, match="has int4 weights already: quantize the model that it was made of"):
            write_again(opened, tmp_path / "again")


def test_what_cannot_be_int4_names_the_fix(tmp_path, tokenizer) -> None:
    siglip = open_model(write(tmp_path / "siglip", "siglip", tokenizer))
    with pytest.raises(
        ValueError, match="is a siglip, which has no language model to write in int4: take --bits 8"
    ):
        write_int4(siglip, tmp_path / "out")
    with pytest.raises(ValueError, match="no groups of 48 inputs: there are 32, 64, 128"):
        write_int4(open_model(write(tmp_path / "pali", "pali", tokenizer)), tmp_path / "out", 48)


def test_sizes_prints_the_bytes_that_quantize_writes(tmp_path, tokenizer) -> None:
    preset = PRESETS["pico"]
    expected = describe(preset)["bytes"]
    model = materialise(build(preset))
    write_model(tmp_path / "float", model.state_dict(), preset, preprocess=None, tokenizer=tokenizer)
    for form, write_narrow in (("int8", write_int8), ("int4", write_int4)):
        write_narrow(open_model(tmp_path / "float"), tmp_path / form)
        assert sum(tensor.nbytes for tensor in load_file(tmp_path / form / WEIGHTS).values()) == expected[form]


def widened(weights: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    """A tensor as float32, times its scales where it is int8."""
    value = weights[name]
    scale = weights[name.removesuffix("weight") + "scale"][:, None] if value.dtype == torch.int8 else 1
    return value.float() * scale


@pytest.mark.parametrize("write_narrow", [write_int8, write_int4])
def test_quantized_models_are_packed_and_transplanted_as_floats(tmp_path, tokenizer, write_narrow) -> None:
    write(tmp_path / "float", "pali", tokenizer)
    write_narrow(open_model(tmp_path / "float"), tmp_path / "narrow")
    expected = open_model(tmp_path / "narrow").model(plain=True).state_dict()
    description = tmp_path / "bundle.toml"
    description.write_text(f'[parts]\npali = "{tmp_path / "narrow"}"\n')
    pack_bundle(description, tmp_path / "bundle")
    packed = open_model(tmp_path / "bundle" / "pali")
    assert packed.facts == Facts()
    for name, value in packed.model().state_dict().items():
        assert torch.equal(value, expected[name].to(torch.bfloat16).float())
    model = materialise(build(CONFIGS["pali"]))
    transplant(model, "text", str(tmp_path / "narrow"))
    assert torch.equal(model.text.head.weight, expected["text.head.weight"])
