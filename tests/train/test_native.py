"""Training on images in their own proportions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import make_recipe
from torch import Tensor

from openpali.architectures.siglip.architecture import PRESETS as SIGLIP
from openpali.data.media.images import Preprocess
from openpali.data.media.native import NativePreprocess
from openpali.infer.pali import Pali
from openpali.rng import generator
from openpali.train.objectives.base import Lengths
from openpali.train.phases import describe_phases
from openpali.train.recipe import Recipe
from openpali.train.recipe_file import as_toml
from openpali.train.shapes import shape_of
from openpali.train.start import inherit
from openpali.weights.format import open_model

OF_TOKENS = {"phases__0__size": "", "phases__0__tokens": 9}
SIZES = [(40, 160), (90, 30), (64, 64), (100, 75)]  # height and width


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Four images of different proportions, each with its caption and two objects."""
    lines = []
    for i, (height, width) in enumerate(SIZES):
        pixels = np.random.default_rng(i).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        corner = {"name": "bottom right", "box": [height - 8, width - 8, height, width]}
        middle = {"name": f"thing {i}", "box": [height / 4, width / 4, 3 * height / 4, 3 * width / 4]}
        lines.append({"images": f"{i}.png", "caption": f"image {i}", "objects": [corner, middle]})
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def native(source: Path, tokens: int = 40, **changes: Any) -> Recipe:
    mixture = [{"source": str(source), "task": "contrastive"}]
    phases = [{"samples": 8, "tokens": tokens, "mixture": mixture}]
    return make_recipe("siglip", **{"phases": phases, "regions": 1.0, "model__resize": "native", **changes})


def native_answers(source: Path, tokens: int = 40, **changes: Any) -> Recipe:
    mixture = [{"source": str(source), "task": "detect"}]
    phases = [{"samples": 8, "tokens": tokens, "mixture": mixture}]
    return make_recipe("sequence", **{"phases": phases, "model__resize": "native", "max_prompt": 96, **changes})


def samples_of(trainer: Any) -> list[dict[str, np.ndarray]]:
    """The four images, encoded."""
    [phase] = trainer.phases
    [entry], encode = phase.entries, trainer.objective.encoder.encode
    return [encode(entry.source[i], entry.task, phase.preprocess, generator(i)) for i in range(4)]


def outcome(trainer: Any, *batches: dict[str, Tensor]) -> list[Tensor]:
    """The loss of batches, one after the other, and all gradients."""
    trainer.model.zero_grad()
    totals = [trainer.objective.losses(batch, 4.0).total for batch in batches]
    torch.autograd.backward(totals)
    return [sum(totals).detach(), *(p.grad.clone() for p in trainer.model.parameters() if p.grad is not None)]


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(expected) > 20
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def padded(images: Tensor, counts: Tensor, length: int) -> Tensor:
    """Patches ``[B, N, P]``, of which so many are real, with other padding, and more of it."""
    longer = torch.full((len(images), length, images.shape[2]), 77, dtype=torch.uint8)
    for row, of, count in zip(longer, images, counts.tolist(), strict=True):
        row[:count] = of[:count]
    return longer


@pytest.mark.parametrize("changes", [{}, {"dense": True, "sides": 1.0}], ids=["centres", "dense"])
def test_padding_changes_neither_loss_nor_gradients(changes: Any, mine: Path, make_trainer: Any) -> None:
    """All losses, on a batch of four proportions; each region is a patch of its own image's grid."""
    trainer = make_trainer(native(mine, **changes))
    batch = trainer.objective.encoder.collate(samples_of(trainer))
    assert batch["grids"].tolist() == [[3, 12], [10, 4], [6, 6], [7, 5]]
    real = batch["grids"].prod(1)
    regions = trainer.model.vit.patches_at(
        batch["region_boxes"][:8].view(-1, 2, 2).mean(1), batch["grids"].repeat_interleave(2, 0)
    )
    assert regions[::2].tolist() == (real - 1).tolist()

    longer = {**batch, "images": padded(batch["images"], real, 64)}
    assert_same(outcome(trainer, longer), outcome(trainer, batch))


def test_rows_of_a_prompted_model_are_trained_as_if_alone(mine: Path, make_trainer: Any) -> None:
    """Rows of one image, of two, and of text alone: padding of patches, frames and texts changes nothing."""
    trainer = make_trainer(native_answers(mine))
    collate, samples = trainer.objective.encoder.collate, samples_of(trainer)
    pair = {key: np.concatenate([samples[0][key], samples[1][key]]) for key in ("images", "grids")}
    text = {key: value for key, value in samples[0].items() if key not in pair}
    rows = [samples[2], samples[3] | pair, text]
    together = collate(rows)
    assert (together["images"].shape, together["frames"].tolist()) == ((3, 2, 40, 432), [1, 2, 0])
    expected = outcome(trainer, *(collate([row]) for row in rows))
    assert_same(outcome(trainer, together), expected)

    flat, counts = together["images"].flatten(0, 1), together["grids"].prod(-1).flatten()
    longer = padded(flat, counts, 64).unflatten(0, (3, 2))
    assert_same(outcome(trainer, {**together, "images": longer}), expected)


def test_a_run_writes_a_model_that_keeps_proportions(mine: Path, make_trainer: Any, tmp_path: Path) -> None:
    trainer = make_trainer(native(mine), "run")
    trainer.train()
    written = open_model(tmp_path / "run" / "model")
    assert (written.config.vision.grid, written.config.vision.tokens) == ((6, 6), 40)
    assert written.preprocess == NativePreprocess(12, 40)
    images = [np.random.default_rng(9).integers(0, 256, (*size, 3), np.uint8) for size in SIZES]
    expected = trainer.objective.evaluated(sharded=False).embed_image(images)
    pali = Pali(tmp_path / "run" / "model")
    np.testing.assert_allclose(pali.embed_image(images), expected, atol=1e-6)
    np.testing.assert_allclose(pali.embedding.embed_image(images, batch=1), expected, atol=1e-6)


def test_the_commands_train_ask_and_evaluate(mine: Path, tmp_path: Path, openpali: Callable[..., str]) -> None:
    """With evaluations and pictures of samples; the answers to a file are those to its images one by one."""
    held_out = {"name": "mine", "source": str(mine), "task": "caption", "every": 8, "limit": 3, "batch": 2}
    mixture = [{"source": str(mine), "task": "caption"}]
    recipe = native_answers(mine, phases__0__mixture=mixture, evals=[held_out], max_target=16)
    (tmp_path / "recipe.toml").write_text(as_toml(recipe.model_dump()))
    run, found, scores = tmp_path / "run", tmp_path / "found.jsonl", tmp_path / "scores.json"
    openpali("train", tmp_path / "recipe.toml", "--run", run)
    assert list(run.glob("*.png"))
    assert open_model(run / "model").preprocess == NativePreprocess(12, 40)

    asked = ["--model", run, "--task", "caption"]
    openpali("predict", *asked, "--input", mine, "--output", found)
    together = [json.loads(line) for line in found.read_text().splitlines()]
    alone = openpali(
        "predict", *asked, *(mine.with_name(f"{i}.png") for i in range(4)), "--json", "--batch-size", 1
    )
    for line, expected in zip(alone.splitlines(), together, strict=True):
        assert json.loads(line)["text"] == expected["text"]

    openpali("eval", mine, *asked, "--limit", 3, "--json", scores)
    card = json.loads(scores.read_text())
    assert card["preprocessing"]["tokens"] == 40
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    [while_training] = [line["scores"] for line in lines if line.get("eval") == "mine"]
    assert while_training.pop("loss") > 0
    assert while_training == pytest.approx(card["scores"])


@pytest.mark.parametrize("make", [native, native_answers])
def test_plans_see_the_batch_that_training_sees(mine: Path, make_trainer: Any, make: Any) -> None:
    trainer = make_trainer(make(mine))
    [spec] = trainer.recipe.phases
    batch = trainer.objective.encoder.collate(samples_of(trainer)[:1])
    planned = trainer.objective.example_batch(spec, 1, Lengths())
    for name in {"images", "grids", "ids"} & batch.keys():
        assert (planned[name].shape, planned[name].dtype) == (batch[name].shape, batch[name].dtype), name
    assert next(iter(describe_phases(trainer.recipe, trainer.phases))) == "8 samples at up to 40 patches:"


def test_runs_start_from_a_model_that_keeps_proportions(mine: Path, make_trainer: Any, tmp_path: Path) -> None:
    """They inherit that; and its image encoder takes images of one size, too, for objectives that need it."""
    make_trainer(native(mine, model__filter="bilinear"), "start").train()
    start = tmp_path / "start" / "model"
    positions = open_model(start).weights()["vit.positions"]
    unnamed = {"model__init": {"": str(start)}, "model__preset": "", "model__tokenizer": ""}
    recipe = inherit(native(mine, 20, model__resize="", **unnamed))
    assert (recipe.model.resize, recipe.model.filter) == ("native", "bilinear")
    trainer = make_trainer(recipe, "more")
    assert (trainer.model.vit.config.grid, trainer.model.vit.config.tokens) == ((6, 6), 20)
    assert torch.equal(trainer.model.vit.positions, positions)

    parts = {"model__preset": str(start), "model__init": {"vit": str(start)}, "phases__0__samples": 4}
    make_trainer(make_recipe("classify", **parts), "classes").train()
    written = open_model(tmp_path / "classes" / "model")
    assert (written.config.vision.tokens, written.preprocess) == (0, Preprocess(72, 72))


def test_a_model_of_few_patches_gets_positions_for_a_square_of_the_budget(mine: Path) -> None:
    [phase] = native(mine, 70).phases
    few, many, own = (replace(SIGLIP["pico"].vision, grid=grid) for grid in ((6, 6), (9, 8), (6, 6)))
    own = replace(own, tokens=36)
    assert [phase.at_resolution(shape).grid for shape in (few, many, own)] == [(8, 8), (9, 8), (6, 6)]


@pytest.mark.parametrize(
    ("objective", "changes", "message"),
    [
        ("siglip", {"model__resize": "native"}, "tokens in each phase"),
        ("siglip", {"phases__0__tokens": 9}, "either a size, such as 224, or tokens"),
        ("siglip", {"phases__0__size": ""}, "either a size, such as 224, or tokens"),
        ("siglip", {**OF_TOKENS, "model__resize": "pad"}, 'set model.resize = "native"'),
        ("sequence", {**OF_TOKENS, "model__resize": "pad"}, 'set model.resize = "native"'),
        ("classify", OF_TOKENS, 'objective = "classify" takes images of one size'),
        ("classify", {"model__resize": "native"}, 'set model.resize = "squash"'),
    ],
)
def test_recipes_that_cannot_work_are_refused(objective: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_recipe(objective, **changes)


def test_models_that_take_images_of_one_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r'a paligemma takes images of one size: set model.resize = "squash"'):
        shape_of(make_recipe("sequence", model__preset="paligemma-3b", **OF_TOKENS))


def test_all_phases_keep_proportions_or_none(mine: Path) -> None:
    phases = [phase.model_dump() for phase in native(mine).phases]
    with pytest.raises(ValueError, match="tokens in each phase"):
        make_recipe("siglip", phases=[*phases, phases[0] | {"tokens": 0, "size": 72}])
