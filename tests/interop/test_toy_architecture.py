"""An architecture of another package is converted, trained, planned, exported and served."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from openpali.architectures.base import Architecture
from openpali.distributed import ALONE
from openpali.infer.generate import Decoding
from openpali.infer.pali import Pali
from openpali.model.init import materialise
from openpali.serve.scheduler import Scheduler
from openpali.tensors import MappedTensors, write_tensors
from openpali.text.tokenizer import Tokenizer
from openpali.train.load import parse_recipe
from openpali.train.objectives.registry import build_objective
from openpali.train.recipe import Recipe
from openpali.train.start import inherit
from openpali.train.trainer import Trainer
from openpali.weights.bundle import open_tokenizer
from openpali.weights.convert import convert
from openpali.weights.export import export
from openpali.weights.format import open_model
from openpali_lab.plan.planner import find_device, rehearse
from openpali_lab.sizes import describe
from toy_architecture import TEXT, VISION, ToyArchitecture, ToyConfig, ToyModel


@pytest.fixture(scope="module", autouse=True)
def _installed(toy_package: None) -> None:
    """The architecture is found by its entry point."""


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as transformers would write it."""
    folder = tmp_path_factory.mktemp("theirs")
    tokenizer = Tokenizer.train(["a dog", "two blue stars", "what is this?"], 640)
    config = ToyConfig(VISION, replace(TEXT, vocab_size=tokenizer.vocab_size), hidden=6)
    torch.manual_seed(0)
    weights = materialise(ToyModel(config)).state_dict()
    write_tensors(folder, {f"toy.{key}": value for key, value in weights.items()})
    (folder / "config.json").write_text(json.dumps({"model_type": "toy", **asdict(config)}))
    tokenizer.save(folder / "tokenizer.model")
    return folder


@pytest.fixture(scope="module")
def converted(theirs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted")
    convert([theirs], folder)
    return folder


def recipe_in(folder: Path, start: Path) -> Recipe:
    with (folder / "mine.jsonl").open("w") as file:
        for shade, answer in ((20, "a dog"), (200, "two blue stars")):
            Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(folder / f"{shade}.png")
            line = {"images": [str(folder / f"{shade}.png")], "question": "what is this?", "answers": [answer]}
            file.write(json.dumps(line) + "\n")
    mixture = [{"source": str(folder / "mine.jsonl"), "task": "vqa"}]
    return inherit(
        parse_recipe(
            {
                "name": "toy",
                "objective": "sequence",
                "batch": 2,
                "workers": 0,
                "precision": "fp32",
                "model": {"init": {"": str(start)}},
                "optimizer": {"lr": 1e-2, "schedule": "constant"},
                "phases": [{"samples": 4, "size": 8, "mixture": mixture}],
            }
        )
    )


def test_it_is_converted_and_exported_bit_for_bit(theirs: Path, converted: Path, tmp_path: Path) -> None:
    opened = open_model(converted)
    assert (opened.kind, opened.answers, opened.facts.parts) == ("toy", True, {"model": str(theirs)})
    assert export(opened, tmp_path) == [tmp_path]
    before, after = MappedTensors(theirs), MappedTensors(tmp_path)
    assert before.keys() == after.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert ToyArchitecture().read(tmp_path).config == opened.config


def test_it_trains_from_what_was_converted(converted: Path, tmp_path: Path) -> None:
    """`test_parallel.py` shards it over two ranks."""
    recipe = recipe_in(tmp_path, converted)
    tokenizer = open_tokenizer(recipe.model.tokenizer)
    trained = open_model(Trainer(recipe, tmp_path / "run", ALONE, tokenizer).train())
    before, after = open_model(converted).weights(), trained.weights()
    assert (trained.kind, trained.facts.samples) == ("toy", 4)
    assert not any(torch.equal(after[key], before[key]) for key in before if ".norm" not in key)


def test_its_preset_takes_vocabulary_and_dropout_of_the_recipe(converted: Path, tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path, converted)
    model = recipe.model.model_copy(update={"preset": "toy", "init": {}, "dropout": 0.1})
    tokenizer = open_tokenizer(recipe.model.tokenizer)
    text = build_objective(recipe.model_copy(update={"model": model}), tokenizer).config.text
    assert text == replace(TEXT, vocab_size=tokenizer.vocab_size, dropout=0.1)


def test_without_it_a_tokenizer_must_fit_into_the_preset() -> None:
    config = ToyConfig(VISION, TEXT, hidden=6)
    assert Architecture.for_training(ToyArchitecture(), config, 640, 0) is config
    with pytest.raises(ValueError, match="name a smaller one"):
        Architecture.for_training(ToyArchitecture(), config, TEXT.vocab_size + 1, 0)


def test_it_is_planned(converted: Path, tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path, converted)
    costs = rehearse(recipe, recipe.phases[0], find_device("h100", 1), 1)
    weights = open_model(converted).weights()
    assert costs.memory["weights"] == 4 * sum(value.numel() for value in weights.values())
    assert describe(open_model(converted).config)["parameters"]["all"] == sum(v.numel() for v in weights.values())


def test_it_is_served_as_it_answers(converted: Path) -> None:
    pali = Pali.from_pretrained(converted)
    image, prompt, decoding = np.full((8, 8, 3), 90, np.uint8), "Answer in en: what? <extra_id_0>", Decoding(5)
    [alone] = pali.predict([[image]], [prompt], decoding=decoding)
    scheduler = Scheduler(pali, slots=2)
    ticket = scheduler.submit([image], prompt, decoding=decoding)
    while scheduler.turn():
        pass
    assert ticket.predictions()[0].generation.ids == alone.generation.ids
