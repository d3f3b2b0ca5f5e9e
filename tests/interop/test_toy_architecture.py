"""A new architecture is one class and one line of registration; then it is converted, trained on two ranks,
planned, exported and served. ``python test_toy_architecture.py`` is the two ranks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from openpali.architectures.base import Architecture, Exported, Flops, Stored
from openpali.architectures.facts import Facts
from openpali.architectures.pali import PaliArchitecture
from openpali.architectures.registry import ARCHITECTURES, register
from openpali.architectures.rules import Rule, read, read_config, skeleton, write
from openpali.architectures.sizes import describe
from openpali.data.media.images import Preprocess
from openpali.distributed import join_ranks
from openpali.infer.generate import Decoding
from openpali.infer.pali import Pali
from openpali.lab.plan.planner import find_device, rehearse
from openpali.model.init import materialise
from openpali.model.layers import Dense
from openpali.model.pali import PaliModel, PaliModelConfig
from openpali.model.t5 import T5Config
from openpali.model.vit import ViTConfig
from openpali.serve.scheduler import Scheduler
from openpali.tensors import MappedTensors, write_tensors
from openpali.text.tokenizer import Tokenizer
from openpali.train import monitor
from openpali.train import trainer as trainer_module
from openpali.train.load import parse_recipe, read_record
from openpali.train.parallel import blocks_of
from openpali.train.recipe import Recipe
from openpali.train.start import inherit
from openpali.train.trainer import Trainer
from openpali.weights.bundle import open_tokenizer
from openpali.weights.convert import convert
from openpali.weights.export import export
from openpali.weights.format import open_model


@dataclass(frozen=True)
class ToyConfig:
    vision: ViTConfig
    text: T5Config
    hidden: int


class Bottleneck(nn.Module):
    """What follows the projection of a toy: its one block of its own."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.down, self.up = Dense(width, hidden), Dense(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(self.down(x).relu())


class ToyModel(PaliModel):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(PaliModelConfig(config.vision, config.text))
        self.bottleneck = Bottleneck(config.text.d_model, config.hidden)

    def visual(self, patches_BND: Tensor) -> Tensor:
        return self.bottleneck(super().visual(patches_BND))


class ToyArchitecture(Architecture[ToyConfig]):
    kind = "toy"
    config = ToyConfig
    answers = True
    blocks = {**PaliArchitecture.blocks, Bottleneck: ()}  # noqa: RUF012
    model_types = ("toy",)

    def build(self, config: ToyConfig) -> nn.Module:
        return ToyModel(config)

    def vocabulary(self, config: ToyConfig) -> int:
        return config.text.vocab_size

    def language(self, config: ToyConfig) -> T5Config:
        return config.text

    def flops(self, config: ToyConfig, memory: int) -> Flops:
        return Flops(prefix=memory * config.text.d_model**2)

    def token_flops(self, config: ToyConfig, memory: int, position: int) -> int:
        return config.text.d_model * config.text.vocab_size

    def rules(self, config: ToyConfig) -> list[Rule]:
        return [Rule((key,), (f"toy.{key}",)) for key in skeleton(lambda: ToyModel(config))]

    def read(self, source: Path) -> Stored[ToyConfig]:
        described = read_config(source)
        vision = ViTConfig(**{**described["vision"], "grid": tuple(described["vision"]["grid"])})
        config = ToyConfig(vision, T5Config(**described["text"]), described["hidden"])
        weights = read(self.rules(config), skeleton(lambda: ToyModel(config)), MappedTensors(source), str(source))
        tokenizer = Tokenizer.load(source / "tokenizer.model")
        return Stored(
            config, weights, Preprocess(*vision.image_size), tokenizer, Facts(parts={"model": str(source)})
        )

    def write(self, model: Stored[ToyConfig]) -> dict[str, Exported]:
        described = {"model_type": "toy", **asdict(model.config)}
        weights = write(self.rules(model.config), model.weights)
        return {"": Exported(weights, {"config.json": described}, "tokenizer.model")}


VISION = ViTConfig(patch_size=4, grid=(2, 2), width=8, depth=1, mlp_dim=8, heads=2)
TEXT = T5Config(640, d_model=16, d_head=8, heads=2, d_ff=24, encoder_layers=1, decoder_layers=1)


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    register(ToyArchitecture())  # the one line
    yield
    del ARCHITECTURES["toy"]


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
    convert(theirs, folder)
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
                "parallel": {"shard": "full", "checkpointing": "full"},
                "phases": [{"samples": 4, "size": 8, "mixture": mixture}],
            }
        )
    ).recipe


def test_it_is_converted_and_exported_bit_for_bit(theirs: Path, converted: Path, tmp_path: Path) -> None:
    opened = open_model(converted)
    assert (opened.kind, opened.answers, opened.facts.parts) == ("toy", True, {"model": str(theirs)})
    assert export(opened, tmp_path) == [tmp_path]
    before, after = MappedTensors(theirs), MappedTensors(tmp_path)
    assert before.keys() == after.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert ToyArchitecture().read(tmp_path).config == opened.config


def test_it_trains_sharded_on_two_ranks(converted: Path, tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path, converted)
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    trained, started = open_model(tmp_path / "run" / "model"), open_model(converted).weights()
    after = trained.weights()
    assert (trained.kind, trained.facts.samples) == ("toy", 4)
    assert not any(torch.equal(after[key], started[key]) for key in started if ".norm" not in key)


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


def _train(rank: int) -> None:
    """The work of one rank."""
    folder = Path(sys.argv[1])
    recipe = read_record((folder / "recipe.json").read_text())
    with join_ranks() as ranks:
        trainer = Trainer(recipe, folder / "run", ranks, open_tokenizer(recipe.model.tokenizer))
        [shared] = [block for block in blocks_of(trainer.model) if isinstance(block, Bottleneck)]
        assert all(p.to_local().numel() < p.numel() for p in shared.parameters() if p.ndim > 1)
        trainer.train()


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
    from _ranks import fork_ranks

    torch.set_num_threads(1)
    trainer_module.matmul_peak = lambda *_: 1e12
    monitor._tensorboard = lambda *_: None
    register(ToyArchitecture())
    started = fork_ranks(2, 2, _train)
    sys.exit(any([os.waitpid(child, 0)[1] for child in started]))
