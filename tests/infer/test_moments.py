"""Second moments of the inputs of layers, and int4 weights that are rounded for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import openpali.weights.quantize as quantize_module
from openpali.data.sources.jsonl import JsonlSource
from openpali.infer.bulk import Request, replies
from openpali.infer.moments import Unanswered, input_moments
from openpali.infer.pali import Pali
from openpali.weights.format import open_model
from openpali.weights.quantize import write_int4

QUESTIONS = ("What is it?", "Where is the dog?", "How many are there?")


@pytest.fixture
def asked(tmp_path: Path) -> JsonlSource:
    pixels = np.random.default_rng(0).integers(0, 256, (len(QUESTIONS), 60, 90, 3), np.uint8)
    lines = []
    for number, question in enumerate(QUESTIONS):
        Image.fromarray(pixels[number]).save(tmp_path / f"{number}.png")
        lines.append(json.dumps({"images": [f"{number}.png"], "question": question}))
    (tmp_path / "asked.jsonl").write_text("\n".join(lines))
    return JsonlSource(tmp_path / "asked.jsonl")


@pytest.fixture
def pali(bundle: Path) -> Pali:
    return Pali(bundle / "pali")


def test_moments_are_sums_over_all_that_goes_in(pali: Pali, asked: JsonlSource) -> None:
    layers = [f"text.{name}" for name in ("encoder.0.ff.gate", "encoder.0.ff.up", "head", "decoder.0.cross.query")]
    moments = input_moments(pali, asked, layers)
    assert moments.keys() == {*layers}
    gate, up, head, query = (moments[name] for name in layers)
    assert torch.equal(gate, up)  # they have the same inputs
    torch.testing.assert_close(gate, gate.T)
    assert torch.linalg.eigvalsh(gate).min() > -1e-4 * gate.diagonal().max()
    config = pali.pipeline().model.text.config
    [answered] = replies(pali, asked, Request())
    lengths = [len(pali.pipeline().prompt_ids(each.prediction.prompt)) for each in answered]
    tokens = sum(length + -length % 8 for length in lengths)  # rows are padded a little
    patches = len(QUESTIONS) * np.prod(pali.pipeline().model.vit.config.grid)
    # behind a norm, the squares of an input are as many as it has numbers, times the scale
    scale = pali.pipeline().model.text.encoder[0].norm_ff.scale.detach().square().mean()
    assert gate.trace().item() == pytest.approx(float((tokens + patches) * config.d_model * scale), rel=0.01)
    assert head.shape == query.shape == (config.d_model, config.d_model)
    assert not pali.pipeline().model.text.head._forward_pre_hooks


def test_samples_that_cannot_be_answered_are_an_error(pali: Pali, tmp_path: Path) -> None:
    (tmp_path / "asked.jsonl").write_text(json.dumps({"images": ["gone.png"], "question": "What?"}))
    with pytest.raises(ValueError, match=r"nothing to calibrate with: .*gone\.png"):
        input_moments(pali, JsonlSource(tmp_path / "asked.jsonl"), [])


def test_samples_of_several_tasks_are_asked_the_one_that_is_named(pali: Pali, tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(tmp_path / "a.png")
    record = {"images": ["a.png"], "caption": "a cat", "objects": [{"name": "cat", "box": [1, 1, 9, 9]}]}
    (tmp_path / "both.jsonl").write_text(json.dumps(record))
    both = JsonlSource(tmp_path / "both.jsonl")
    with pytest.raises(ValueError, match="--task"):
        input_moments(pali, both, ["text.head"])
    assert input_moments(pali, both, ["text.head"], "caption")


def test_samples_that_are_left_out_are_counted(pali: Pali, asked: JsonlSource, tmp_path: Path) -> None:
    (tmp_path / "1.png").unlink()
    with pytest.warns(Unanswered, match=r"1 of 3 samples cannot be answered, as [^:]*:2: [^:]*1\.png"):
        assert input_moments(pali, asked, ["text.head"])


def test_a_model_that_is_rounded_for_its_inputs_is_nearer_to_itself(
    pali: Pali, asked: JsonlSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few layers are measured at a time."""
    source, times = open_model(pali.folder), []

    def measure(layers: list[str]) -> dict[str, torch.Tensor]:
        times.append(len(layers))
        return input_moments(pali, asked, layers)

    write_int4(source, tmp_path / "plain", 32)
    write_int4(source, tmp_path / "measured", 32, measure)
    monkeypatch.setattr(quantize_module, "MOMENTS", 10_000)
    write_int4(source, tmp_path / "in-turn", 32, measure)
    assert len(times) > 2
    assert sum(times[1:]) == times[0]
    measured, in_turn = (open_model(tmp_path / name).stored() for name in ("measured", "in-turn"))
    assert all(torch.equal(measured[name], in_turn[name]) for name in measured)
    exact = source.weights()
    layers = [name.removesuffix(".weight") for name, tensor in measured.items() if tensor.dtype == torch.uint8]
    moments = input_moments(pali, asked, layers)

    def errors(name: str) -> np.ndarray:
        """Of the outputs of each layer for inputs like those that it was measured with, squared."""
        rounded = open_model(tmp_path / name).weights()
        off = {layer: rounded[f"{layer}.weight"] - exact[f"{layer}.weight"].float() for layer in layers}
        return np.array([((each @ moments[layer]) * each).sum().item() for layer, each in off.items()])

    assert len(layers) > 10
    near, plain = errors("measured"), errors("plain")
    assert (near < 0.9 * plain).all()
    assert near.sum() < 0.7 * plain.sum()
