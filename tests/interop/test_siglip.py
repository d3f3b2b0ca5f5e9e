"""SigLIP of transformers and big_vision: every layer, every layout, every mismatch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import SiglipModel

from openpali.architectures.halves.big_vision import read_npz
from openpali.architectures.siglip.architecture import read_image_encoder, read_siglip, write_siglip
from openpali.architectures.siglip.network import SigLIP, SigLIPConfig, TextTowerConfig
from openpali.model.init import init_weights
from openpali.model.vit import ViTConfig
from openpali.tensors import write_tensors
from openpali.weights.convert import convert
from openpali_lab.parity import compare_images

from . import checkpoints

AS_WRITTEN = ViTConfig(patch_size=4, grid=(3, 3), width=24, depth=2, mlp_dim=40, heads=3)
Tree = dict[str, np.ndarray]


# ---- transformers


def test_both_towers_agree(tmp_path: Path) -> None:
    checkpoints.siglip(tmp_path)
    encoder = read_siglip(tmp_path)
    assert encoder.vision == AS_WRITTEN
    assert encoder.text == TextTowerConfig(vocab_size=30, length=5, width=16, depth=3, mlp_dim=32, heads=2)
    assert (encoder.image_size, encoder.vision.image_size) == ((14, 14), (12, 12))
    parities = compare_images(encoder, tmp_path)
    assert [p.name.strip() for p in parities] == [
        *(f"image layer {i}" for i in (1, 2)),
        "image tokens",
        "image embedding",
        *(f"text layer {i}" for i in (1, 2, 3)),
        "text embedding",
        "sigmoid loss",
    ]
    assert all(p.absolute <= 1e-5 and p.relative <= 1e-5 for p in parities), parities


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("prefix", ["", "vision_model."])  # what version 5 and those before it write
def test_an_image_encoder_alone_agrees(tmp_path: Path, head: bool, prefix: str) -> None:
    checkpoints.image_encoder(tmp_path, head=head)
    if prefix:
        weights = load_file(tmp_path / "model.safetensors")
        weights = {f"{prefix}{key}": value for key, value in weights.items()}
        weights["vision_model.embeddings.position_ids"] = torch.arange(9)[None]
        save_file(weights, tmp_path / "model.safetensors")
    encoder = read_siglip(tmp_path)
    assert (encoder.vision, encoder.text, encoder.has_pool) == (AS_WRITTEN, None, head)
    parities = compare_images(encoder, tmp_path)
    assert len(parities) == 3 + head
    assert all(p.absolute <= 1e-5 and p.relative <= 1e-5 for p in parities), parities


def test_a_report_shows_a_wrong_layer(tmp_path: Path) -> None:
    checkpoints.image_encoder(tmp_path)
    encoder = read_siglip(tmp_path)
    encoder.weights["vit.encoder.blocks.1.attention.qkv.weight"][0] += 0.1
    first, second, tokens, embedding = compare_images(encoder, tmp_path)
    assert first.relative <= 1e-5 < 1e-4 < min(second.relative, tokens.relative, embedding.relative)


def test_deep_models_agree_relatively(tmp_path: Path) -> None:
    checkpoints.image_encoder(tmp_path, num_hidden_layers=24, hidden_size=96, num_attention_heads=4)
    parities = compare_images(read_siglip(tmp_path), tmp_path)
    assert len(parities) == 26
    assert max(p.relative for p in parities) <= 1e-5


def test_configurations_may_leave_out_defaults(tmp_path: Path) -> None:
    """As public checkpoints do: B/16 with only the size."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "siglip", "vision_config": {"image_size": 32}}))
    write_tensors(tmp_path, {"logit_bias": torch.zeros(1)})
    with pytest.raises(ValueError) as error:
        read_siglip(tmp_path)
    layer, vision, head, text, scalars = 16, 5, 11, 6, 1  # tensors
    missing = 12 * layer + vision + head + 12 * layer + text + scalars
    assert str(error.value).count(" is missing") == 5
    assert str(error.value).endswith(f"; and {missing - 5} more")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "siglip2_vision_model"}, r"patch_embedding.weight has shape \(24, 3, 4, 4\)"),
        ({"model_type": "clip_vision_model"}, "holds a 'clip_vision_model', not a SigLIP"),
        ({"model_type": None}, "is not a configuration of transformers"),
        (
            {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
            "hidden_act = 'quick_gelu' .*; layer_norm_eps = 1e-05",
        ),
        ({"patch_size": [4, 2]}, "patches of 4 x 2 pixels: only square patches"),
    ],
)
def test_errors_name_what_cannot_be_read(tmp_path: Path, change: dict, message: str) -> None:
    checkpoints.image_encoder(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        read_siglip(tmp_path)


def test_towers_of_different_embeddings_are_refused(tmp_path: Path) -> None:
    checkpoints.siglip(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["projection_size"] = 16
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="16"):
        read_siglip(tmp_path)


def test_transformers_opens_our_siglip(tmp_path: Path) -> None:
    """transformers loads it without missing or unexpected keys, and we read the same weights back."""
    torch.manual_seed(0)
    config = SigLIPConfig(AS_WRITTEN, TextTowerConfig(30, 5, 16, 2, 32, 2))
    model = init_weights(SigLIP(config)).eval()
    tensors, described = write_siglip(model.state_dict(), config)
    write_tensors(tmp_path, tensors)
    (tmp_path / "config.json").write_text(json.dumps(described))
    theirs, info = SiglipModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    images, ids = torch.rand(2, 12, 12, 3) * 2 - 1, torch.randint(0, 30, (2, 5))
    with torch.no_grad():
        expected = theirs.eval()(input_ids=ids, pixel_values=images.permute(0, 3, 1, 2))
        torch.testing.assert_close(model(images, ids).text, expected.text_embeds, rtol=0, atol=1e-5)
        torch.testing.assert_close(model(images, ids).image, expected.image_embeds, rtol=0, atol=1e-5)
    again = read_siglip(tmp_path)
    assert (again.vision, again.text) == (config.vision, config.text)
    assert all(torch.equal(again.weights[key], value) for key, value in model.state_dict().items())


# ---- big_vision


def scan(tree: Tree) -> Tree:
    """Blocks stacked along a first axis."""
    stacked: dict[str, list[np.ndarray]] = {}
    plain = {}
    for key, value in tree.items():
        if "/encoderblock_" in key:
            before, _, after = key.partition("/encoderblock_")
            stacked.setdefault(f"{before}/encoderblock/{after.partition('/')[2]}", []).append(value)
        else:
            plain[key] = value
    return plain | {key: np.stack(values) for key, values in stacked.items()}


def positions_in_encoder(tree: Tree) -> Tree:
    return {key.replace("img/pos_embedding", "img/Transformer/pos_embedding"): value for key, value in tree.items()}


def positions_in_module(tree: Tree) -> Tree:
    there = "img/Transformer/posembed_input/pos_embedding"
    return {key.replace("img/pos_embedding", there): value for key, value in tree.items()}


def training_checkpoint(tree: Tree) -> Tree:
    """The parameters beside the state of the optimizer."""
    parameters = {key.replace("params/", "opt/target/"): value for key, value in tree.items()}
    return {"opt/state/step": np.zeros((), np.int32), **parameters}


def same(tree: Tree) -> Tree:
    return tree


@pytest.mark.parametrize("layout", [same, scan, positions_in_encoder, positions_in_module, training_checkpoint])
def test_every_layout_of_big_vision_is_read(tmp_path: Path, layout: Callable[[Tree], Tree]) -> None:
    """Each gives the same model as transformers' checkpoint."""
    theirs = checkpoints.siglip(tmp_path / "theirs")
    tree = layout(checkpoints.big_vision(theirs))
    np.savez(tmp_path / "it.npz", **tree)
    encoder, expected = read_npz(tmp_path / "it.npz"), read_siglip(tmp_path / "theirs")
    assert (encoder.vision, encoder.text) == (expected.vision, expected.text)
    assert encoder.weights.keys() == expected.weights.keys()
    for key, value in expected.weights.items():
        assert torch.equal(encoder.weights[key], value), key


def test_bf16_arrays_are_read_without_jax(tmp_path: Path) -> None:
    """numpy reads them as two opaque bytes."""
    theirs = checkpoints.siglip(tmp_path / "theirs")
    tree = scan(checkpoints.big_vision(theirs))
    halves = {
        key: torch.from_numpy(value).bfloat16().view(torch.int16).numpy().view("V2") for key, value in tree.items()
    }
    np.savez(tmp_path / "it.npz", **halves)
    assert np.load(tmp_path / "it.npz")["params/t"].dtype == np.dtype("V2")
    encoder, expected = read_npz(tmp_path / "it.npz"), read_siglip(tmp_path / "theirs")
    for key, value in expected.weights.items():
        assert torch.equal(encoder.weights[key], value.bfloat16()), key


def test_image_encoder_of_big_vision_alone(tmp_path: Path) -> None:
    """Without `img/`, with a classifier's head, which is left out and named."""
    tree = checkpoints.big_vision(checkpoints.image_encoder(tmp_path / "theirs"))
    tree |= {"params/head/kernel": np.zeros((24, 10), np.float32), "params/head/bias": np.zeros(10, np.float32)}
    np.savez_compressed(tmp_path / "it.npz", **tree)
    encoder = read_image_encoder(tmp_path / "it.npz")
    expected = read_siglip(tmp_path / "theirs")
    assert (encoder.vision, encoder.text) == (expected.vision, None)
    assert sorted(encoder.dropped) == ["img/head/bias", "img/head/kernel"]
    assert all(torch.equal(encoder.weights[key], value) for key, value in expected.weights.items())


def damaged(name: str, tree: Tree) -> Tree:
    if name == "no ViT":
        return {"params/w": np.zeros(3, np.float32)}
    if name == "class token":
        tree["params/img/pos_embedding"] = np.zeros((1, 10, 24), np.float32)
    if name == "integers":
        tree["params/t"] = np.zeros(1, np.int64)
    if name == "pickle":
        tree["params/t"] = np.array([{"a": 1}], dtype=object)
    return tree


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no ViT", "is not a ViT of big_vision .*img/embedding/kernel"),
        ("class token", "10 position embeddings, which do not form a square: one belongs to a class token"),
        ("integers", "params/t has dtype int64, but weights must be floats"),
        ("pickle", "is not an .npz file of arrays: Object arrays cannot be loaded"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, message: str) -> None:
    np.savez(tmp_path / "it.npz", **damaged(name, checkpoints.big_vision(checkpoints.siglip(tmp_path / "theirs"))))
    with pytest.raises(ValueError, match=message):
        read_npz(tmp_path / "it.npz")


def test_files_of_another_form_or_damaged_inside_are_named(tmp_path: Path) -> None:
    """An array alone, and compressed arrays of which some bytes changed."""
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    random = np.random.default_rng(0).standard_normal((100, 100))
    np.savez_compressed(tmp_path / "changed.npz", **{"img/embedding/kernel": random})
    damaged = bytearray((tmp_path / "changed.npz").read_bytes())
    damaged[300:2000] = bytes(byte ^ 0x5A for byte in damaged[300:2000])
    (tmp_path / "changed.npz").write_bytes(damaged)
    for name in ("array.npz", "changed.npz"):
        with pytest.raises(ValueError, match=rf"{name} is not an \.npz file"):
            convert([tmp_path / name], tmp_path / "ours")


@pytest.mark.parametrize("kind", ["siglip", "paligemma", "t5gemma2"])
def test_a_configuration_of_another_form_is_said_in_a_sentence(tmp_path: Path, kind: str) -> None:
    write_tensors(tmp_path / "theirs", {"a": torch.zeros(1)})
    parts = dict.fromkeys(["vision_config", "text_config", "encoder", "decoder"], "none")
    (tmp_path / "theirs" / "config.json").write_text(json.dumps({"model_type": kind, **parts}))
    (tmp_path / "t5").mkdir()
    (tmp_path / "t5" / "config.json").write_text('{"model_type": "t5"}')
    for sources in ([tmp_path / "theirs"], [tmp_path / "theirs", tmp_path / "t5"]):
        with pytest.raises(ValueError, match=r"theirs"):
            convert(sources, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()
