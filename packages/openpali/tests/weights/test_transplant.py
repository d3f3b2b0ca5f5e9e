"""Starting parts of a model from another checkpoint."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from openpali.architectures.registry import build
from openpali.model.init import materialise
from openpali.model.vit import ViT, resample_positions
from openpali.text.tokenizer import Tokenizer
from openpali.weights.format import open_model
from openpali.weights.transplant import transplant
from weights.folders import CONFIGS, write


def test_transplant_takes_a_part_and_leaves_the_rest(tmp_path) -> None:
    origin = write(tmp_path / "siglip", "siglip", seed=1)
    source = open_model(origin).weights()
    model = materialise(build(CONFIGS["pali"]))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    transplant(model, "vit", str(origin))
    for key, value in model.state_dict().items():
        assert torch.equal(value, source[key] if key.startswith("vit.") else before[key])
    assert all(p.requires_grad for p in model.parameters())


def test_transplant_by_another_name(tmp_path) -> None:
    origin = write(tmp_path / "siglip", "siglip", seed=1)
    source = open_model(origin).weights()
    model = materialise(build(CONFIGS["siglip"]))
    transplant(model, "text.encoder", f"{origin}#vit.encoder")
    assert torch.equal(model.text.encoder.norm.weight, source["vit.encoder.norm.weight"])
    assert torch.equal(model.text.encoder.blocks[0].mlp.up.weight, source["vit.encoder.blocks.0.mlp.up.weight"])


def test_transplant_takes_a_scalar(tmp_path) -> None:
    origin = write(tmp_path / "siglip", "siglip")  # with a bias of -3
    model = materialise(build(replace(CONFIGS["siglip"], bias=-10.0)))
    transplant(model, "bias", str(origin))
    assert model.bias.item() == -3
    with pytest.raises(ValueError, match="has no such scalar 'temperature'"):
        transplant(model, "bias", f"{origin}#temperature")
    with pytest.raises(ValueError, match="single ones are scalars: name 'vit'"):
        transplant(model, "vit.positions", str(origin))


def test_transplant_leaves_sides_that_the_other_model_lacks(tmp_path) -> None:
    origin = write(tmp_path / "siglip", "siglip", seed=1)
    model = materialise(build(replace(CONFIGS["siglip"], sides=True)))
    before = model.sides.weight.clone()
    transplant(model, "", str(origin))
    assert torch.equal(model.sides.weight, before)
    assert torch.equal(model.vit.positions, open_model(origin).weights()["vit.positions"])


def test_transplant_refuses_embeddings_of_another_vocabulary(tmp_path, tokenizer) -> None:
    origin = write(tmp_path / "pali", "pali", tokenizer, seed=1)
    other = Tokenizer.train(["ein roter Kreis", "ein blauer Stern"] * 10, 700)
    model = materialise(build(CONFIGS["pali"]))
    for part in ("", "text", "text.embed", "text.head"):
        transplant(model, part, str(origin), tokenizer)
        with pytest.raises(
            ValueError, match=r"pali was trained with another vocabulary \(\d+ of \d+ ids differ; .*pali'"
        ):
            transplant(model, part, str(origin), other)
    for part in ("vit", "text.encoder"):
        transplant(model, part, str(origin), other)


@pytest.mark.parametrize("part", ["", "vit"])
@pytest.mark.parametrize("grid", [(6, 6), (8, 8), (4, 7)])
def test_transplant_resamples_positions(part, grid, tmp_path) -> None:
    origin = write(tmp_path / "pali", "pali", seed=1)
    positions = open_model(origin).weights()["vit.positions"]
    model = materialise(build(CONFIGS["pali"]))
    assert isinstance(model.vit, ViT)
    model.vit.set_grid(grid)
    transplant(model, part, str(origin))
    assert torch.equal(model.vit.positions, resample_positions(positions, (6, 6), grid))
    assert model.vit(torch.zeros(1, grid[0] * 12, grid[1] * 12, 3)).shape == (1, grid[0] * grid[1], 32)


def test_transplant_of_tensors_that_do_not_fit(tmp_path) -> None:
    origin = write(tmp_path / "classifier", "classifier")
    model = materialise(build(CONFIGS["pali"]))
    for part, start, named in (("vit", f"{origin}#head", "#head do not fit"), ("tower", str(origin), "'tower'")):
        with pytest.raises(ValueError, match=named):
            transplant(model, part, start)
    with pytest.raises(FileNotFoundError):
        transplant(model, "vit", "nowhere")
