"""Checkpoints in the middle of a run are models that can be asked and scored."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from openpali.data.sources.registry import open_source
from openpali.distributed import ALONE
from openpali.infer.pali import Pali
from openpali.train.checkpoint import checkpoints
from openpali.train.load import parse_recipe
from openpali.train.snapshot import export_checkpoint
from openpali.train.trainer import Trainer
from openpali.weights.bundle import open_tokenizer
from openpali.weights.format import open_model


@pytest.fixture(scope="module", params=[0.0, 0.9])
def run(
    request: pytest.FixtureRequest, world_with_vocabulary: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished run of two phases with other resolutions, with and without averaged weights."""
    line = {"source": "nano/scene", "task": "detect", "task_options": {"bins": 16}}
    recipe = parse_recipe(
        {
            "name": "snapshot",
            "objective": "sequence",
            "batch": 4,
            "workers": 0,
            "max_target": 96,
            "keep": 9,
            "keep_every": 4,
            **({"ema": request.param} if request.param else {}),
            "model": {"preset": "pico", "tokenizer": "nano-vocabulary"},
            "optimizer": {"lr": 1e-2},
            "phases": [
                {"samples": 8, "size": 72, "mixture": [line]},
                {"samples": 4, "size": 96, "mixture": [line]},
            ],
        }
    )
    folder = tmp_path_factory.mktemp("runs") / "mine"
    Trainer(recipe, folder, ALONE, open_tokenizer("nano-vocabulary")).train()
    return folder


def test_the_last_checkpoint_is_the_model_of_the_run(run: Path) -> None:
    first, *_, last = [export_checkpoint(each) for each in checkpoints(run)]
    exported, own = open_model(last), open_model(run / "model")
    assert (exported.config, exported.preprocess, exported.facts) == (own.config, own.preprocess, own.facts)
    assert exported.tokenizer.proto == own.tokenizer.proto
    assert exported.weights().keys() == own.weights().keys()
    assert all(torch.equal(value, own.weights()[name]) for name, value in exported.weights().items())
    assert open_model(first).preprocess.height == 72  # type: ignore[union-attr]
    assert export_checkpoint(checkpoints(run)[0]) == first
    assert not list((run / "models").glob(".*"))
    image = open_source("nano/scene", {})[0].images
    Pali.from_pretrained(first).detect(image, ["horse"])


def test_a_checkpoint_that_is_written_again_is_exported_again(run: Path) -> None:
    checkpoint = checkpoints(run)[0]
    folder = export_checkpoint(checkpoint)
    (folder / "mark").touch()
    assert (export_checkpoint(checkpoint) / "mark").is_file()
    later = folder.stat().st_mtime + 10
    os.utime(checkpoint, (later, later))
    assert not (export_checkpoint(checkpoint) / "mark").exists()
    os.utime(checkpoint, (later - 1000, later - 1000))


def test_a_copy_of_a_checkpoint_is_none(run: Path) -> None:
    before = checkpoints(run)
    copy = shutil.copytree(before[-1], before[-1].with_name(f"{before[-1].name}.bak"))
    try:
        assert checkpoints(run) == before
    finally:
        shutil.rmtree(copy)


def test_eval_takes_a_checkpoint(run: Path, tmp_path: Path, openpali: Callable[..., str]) -> None:
    checkpoint, card = checkpoints(run)[0], tmp_path / "card.json"
    openpali("eval", "nano/detect", "--limit", 2, "--model", checkpoint, "--json", card)
    assert json.loads(card.read_text())["model"]["name"].endswith(f"models/{checkpoint.name}")


def test_data_is_checked_as_a_checkpoint_knows_it(run: Path, tmp_path: Path, openpali: Callable[..., str]) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    data = tmp_path / "mine.jsonl"
    data.write_text(json.dumps({"images": ["one.png"], "objects": [{"name": "kite", "box": [1, 1, 5, 5]}]}) + "\n")
    shown = openpali("data", "validate", data, "--model", checkpoints(run)[0], "--task", "detect", "--json")
    assert json.loads(shown)["feeds"]["detect"] == 1


def test_what_is_no_model_yet_names_the_way(run: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is a checkpoint: give the model folder"):
        Pali.from_pretrained(checkpoints(run)[0])
    shutil.copytree(run / "checkpoints", tmp_path / "half" / "checkpoints")
    with pytest.raises(
        FileNotFoundError, match=r"half is not finished: give a checkpoint of it, .*half/checkpoints/step-"
    ):
        Pali.from_pretrained(tmp_path / "half")
