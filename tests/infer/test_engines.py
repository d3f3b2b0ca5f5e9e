"""Engines from the command line: predict and eval."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from openpali.infer.bundle import EngineMissing, _installed
from openpali.infer.engines.openvino import OpenVinoPali
from openpali.infer.pali import Pali
from openpali.model.int4 import Int4Linear
from openpali.model.int8 import Int8Linear, QuantizedLinear
from openpali.weights.format import open_model
from openpali.weights.quantize import write_int8


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Pali]:
    """The models that commands open."""
    models: list[Pali] = []
    real = Pali.__init__

    def remember(self: Pali, *arguments: Any) -> None:
        real(self, *arguments)
        models.append(self)

    monkeypatch.setattr(Pali, "__init__", remember)
    return models


@pytest.mark.parametrize("engine", ["openvino", "openvino-int8"])
def test_predict_asks_the_engine_that_was_named(
    openpali, bundle: Path, tmp_path: Path, opened: list[Pali], engine: str
) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)).save(photo)
    assert json.loads(
        openpali("predict", photo, "--task", "caption", "--model", bundle, "--engine", engine, "--json")
    )["prompt"].startswith("Generate the alt_text")
    [pali] = opened
    assert pali.engine == engine
    assert [type(each.engine) for each in pali._pipelines.values()] == [OpenVinoPali]


@pytest.mark.parametrize("engine", ["torch", "torch-int8", "openvino-int8"])
def test_a_score_card_names_the_engine(
    openpali, bundle: Path, tmp_path: Path, opened: list[Pali], engine: str
) -> None:
    card = tmp_path / "card.json"
    words = ["eval", "nano/caption", "--model", bundle, "--limit", 3, "--json", card, "--engine", engine]
    openpali(*words)
    found = json.loads(card.read_text())["model"]
    assert found["engine"] == engine
    assert found["dtype"] == opened[0].pipeline().precision  # OpenVINO computes in bf16 where the processor can
    assert isinstance(opened[0].pipeline().engine, OpenVinoPali) == (engine == "openvino-int8")


@pytest.mark.parametrize("stored", ["floats", "int8"])
def test_torch_int8_computes_in_int8_whatever_is_stored(stored: str, bundle: Path, tmp_path: Path) -> None:
    exact_pali = Pali.from_pretrained(bundle)
    folder = exact_pali.parts["pali"]
    if stored == "int8":
        write_int8(open_model(folder), folder := tmp_path / "int8")
    pipeline = Pali.from_pretrained(folder, "torch-int8").pipeline()
    linears = [m for m in pipeline.model.modules() if isinstance(m, (torch.nn.Linear, Int8Linear))]
    assert linears
    assert all(isinstance(m, Int8Linear) and m.rounds for m in linears)
    prompt = torch.randint(2, 99, (1, 9))
    images = torch.randint(0, 256, (1, 1, *pipeline.model.vit.config.image_size, 3), dtype=torch.uint8)
    with torch.inference_mode():
        seen, exact = (p.model.encode(images, prompt).outputs for p in (pipeline, exact_pali.pipeline()))
    assert 0 < (seen - exact).norm() / exact.norm() < 0.05


@pytest.mark.parametrize("engine", ["torch", "torch-int8", "openvino", "openvino-int8"])
def test_a_model_of_int4_is_written_and_evaluated(
    openpali, bundle: Path, tmp_path: Path, opened: list[Pali], engine: str
) -> None:
    small, card = tmp_path / "small", tmp_path / "card.json"
    openpali("quantize", bundle, "--out", small, "--bits", 4)
    words = ["eval", "nano/caption", "--model", small, "--limit", 3, "--json", card, "--engine", engine]
    openpali(*words)
    assert json.loads(card.read_text())["model"]["engine"] == engine
    layers = {type(m) for m in opened[0].pipeline().model.text.modules() if isinstance(m, QuantizedLinear)}
    assert layers == {Int4Linear, Int8Linear}  # the head


@pytest.mark.parametrize("engine", ["torch-int8", "openvino", "openvino-int8"])
def test_engines_of_cpus_are_refused_elsewhere(engine: Any, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openpali.infer.bundle._device", torch.device)
    with pytest.raises(ValueError, match=f"engine {engine} computes on a cpu, not on cuda: take engine torch"):
        Pali.from_pretrained(bundle, engine, device="cuda")


@pytest.mark.parametrize("command", [["predict", "PHOTO", "what?"], ["eval", "nano/caption"]])
def test_a_missing_engine_is_one_sentence_that_names_the_extra(
    openpali, monkeypatch, bundle: Path, tmp_path: Path, command: list[str]
) -> None:
    photo = tmp_path / "photo.png"
    Image.new("RGB", (8, 8)).save(photo)
    monkeypatch.setitem(sys.modules, "openvino", None)
    words = [str(photo) if word == "PHOTO" else word for word in command]
    code = openpali(*words, "--model", bundle, "--engine", "openvino", fails=True)
    assert code.startswith("openpali: engine openvino needs OpenVINO: pip install 'openpali[cpu]' (")
    assert "openvino" in code.partition("(")[2]


def test_auto_is_openvino_where_it_is_installed_and_else_says_once_that_it_is_not(
    openpali, monkeypatch, bundle: Path, tmp_path: Path
) -> None:
    _installed.cache_clear()
    assert Pali.from_pretrained(bundle, "auto").engine == "openvino"
    assert Pali.from_pretrained(bundle, "auto", dtype="bf16").engine == "torch"
    monkeypatch.setitem(sys.modules, "openvino", None)
    _installed.cache_clear()
    card = tmp_path / "card.json"
    words = ["eval", "nano/caption", "--model", bundle, "--limit", 2, "--json", card, "--engine", "auto"]
    with pytest.warns(EngineMissing, match=r"pip install 'openpali\[cpu\]'"):
        openpali(*words)
    with warnings.catch_warnings():
        warnings.simplefilter("error", EngineMissing)  # it was said
        assert Pali.from_pretrained(bundle, "auto").engine == "torch"
    assert json.loads(card.read_text())["model"]["engine"] == "torch"
    _installed.cache_clear()


def test_a_score_card_names_dtype_and_device(openpali, bundle: Path, tmp_path: Path, opened: list[Pali]) -> None:
    card, answers = tmp_path / "card.json", tmp_path / "a.jsonl"
    words = ["eval", "nano/caption", "--model", bundle, "--limit", 3, "--save-predictions", answers]
    openpali(*words, "--json", card, "--dtype", "bf16", "--device", "cpu")
    found = json.loads(card.read_text())["model"]
    assert (found["dtype"], found["device"]) == ("bf16", "cpu")
    assert next(opened[0].load("pali")[1].parameters()).dtype == torch.bfloat16
    assert "its dtype is 'bf16', now it is 'fp32'" in openpali(*words, fails=True)


def test_saved_answers_are_of_one_engine(openpali, bundle: Path, tmp_path: Path) -> None:
    words = ["eval", "nano/caption", "--model", bundle, "--limit", 2, "--save-predictions", tmp_path / "a.jsonl"]
    openpali(*words)
    said = openpali(*words, "--engine", "openvino", fails=True)
    assert "its engine is 'torch', now it is 'openvino'" in said


@pytest.mark.parametrize(("supported", "dtype"), [(True, "bf16"), (False, "fp32")])
def test_a_score_card_records_what_openvino_computes_in(
    openpali, monkeypatch, bundle: Path, tmp_path: Path, supported: bool, dtype: str
) -> None:
    monkeypatch.setattr("openpali.infer.engines.openvino.bf16_is_faster", lambda device: supported)
    card = tmp_path / "card.json"
    words = ["eval", "nano/caption", "--model", bundle, "--limit", 1, "--json", card, "--engine", "openvino"]
    openpali(*words)
    assert json.loads(card.read_text())["model"]["dtype"] == dtype
