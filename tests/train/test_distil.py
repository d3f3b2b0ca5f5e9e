"""Patch tokens that resemble those of a frozen teacher: its images, the loss, and what is exported."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_runs import Killed, assert_added, assert_same_run, first_batch, kill_at, losses_of, make_recipe

from openpali.architectures.registry import build
from openpali.architectures.siglip.architecture import PRESETS
from openpali.data.media.images import Preprocess
from openpali.model.init import init_weights
from openpali.model.patches import Patches
from openpali.model.vit import ViT
from openpali.text.tokenizer import Tokenizer
from openpali.train.checkpoint import checkpoints
from openpali.train.objectives.distil import as_patches, distillation_loss
from openpali.weights.format import open_model
from openpali.weights.write import write_model


@pytest.fixture
def teacher(tmp_path: Path, tokenizer: Tokenizer) -> str:
    """A SigLIP with patches of 8 pixels on a grid of 4 x 4, and twice pico's width."""
    shape = PRESETS["pico"]
    vision = dataclasses.replace(shape.vision, patch_size=8, grid=(4, 4), width=64)
    text = dataclasses.replace(shape.text, vocab_size=tokenizer.vocab_size)
    config = dataclasses.replace(shape, vision=vision, text=text)
    torch.manual_seed(5)
    weights = init_weights(build(config)).state_dict()
    write_model(tmp_path / "teacher", weights, config, preprocess=Preprocess(32, 32), tokenizer=tokenizer)
    return str(tmp_path / "teacher")


def taught(teacher: str, /, **changes: Any) -> Any:
    return make_recipe("siglip", **{"teacher": teacher, "distillation": 0.5, **changes})


def test_a_teacher_of_the_same_patches_sees_what_the_student_sees() -> None:
    vit = init_weights(ViT(dataclasses.replace(PRESETS["pico"].vision, grid=(3, 4))))
    images = torch.randint(0, 256, (2, 36, 48, 3), dtype=torch.uint8)
    torch.testing.assert_close(vit(as_patches(images, 12, vit)), vit(images))
    native = Patches(torch.zeros(1, 5, 432, dtype=torch.uint8), torch.tensor([[1, 3]]))
    assert as_patches(native, 12, vit) is native


def test_a_teacher_of_other_patches_sees_the_same_grid() -> None:
    """A black image with one white patch has it at the same place."""
    vit = ViT(dataclasses.replace(PRESETS["pico"].vision, patch_size=8))
    images = torch.zeros(1, 36, 48, 3, dtype=torch.uint8)
    images[:, 12:24, 36:] = 255
    values, grids = as_patches(images, 12, vit)
    assert grids.tolist() == [[3, 4]]
    bright = values.mean(-1)[0]
    assert bright[7] > 0.8
    assert bright[[0, 1, 5, 9]].max() == -1
    assert bright.argmax() == 7


def test_the_loss_is_the_mean_over_the_patches_of_each_image() -> None:
    generator = torch.Generator().manual_seed(3)
    ours, theirs = (torch.randn(2, 3, 5, generator=generator).requires_grad_() for _ in range(2))
    each = torch.tensor(
        [
            [1 - F.cosine_similarity(a, b, dim=0) for a, b in zip(*rows, strict=True)]
            for rows in zip(ours.detach(), theirs.detach(), strict=True)
        ]
    )
    torch.testing.assert_close(distillation_loss(ours, theirs, None), each.mean(1).sum())
    real = torch.tensor([[True, True, True], [True, False, False]])
    expected = each[0].mean() + each[1, 0]
    torch.testing.assert_close(distillation_loss(ours, theirs, real), expected)
    distillation_loss(ours, theirs, real).backward()
    assert not ours.grad[1, 1:].any()
    torch.testing.assert_close(distillation_loss(3 * theirs, theirs, real), torch.zeros(()), atol=1e-6, rtol=0)


def test_the_student_learns_and_the_teacher_stays(teacher: str, make_trainer: Any, tmp_path: Path) -> None:
    recipe = taught(teacher, phases__0__samples=96, optimizer__lr=1e-2, ema=0.5)
    trainer = make_trainer(recipe)
    seen = losses_of(trainer, "distillation")
    written = open_model(trainer.train())
    assert sum(seen[-4:]) < 0.7 * sum(seen[:4])
    stays = open_model(Path(teacher)).weights()
    for name, value in trainer.model.auxiliary["teacher"].state_dict().items():
        assert torch.equal(value, stays[f"vit.{name}"]), name
    plain = make_trainer(taught("", distillation=0.0), "plain")
    assert written.weights().keys() == plain.model.state_dict().keys()
    assert not torch.equal(written.weights()["vit.positions"], plain.model.vit.positions)


def test_the_loss_is_added_by_its_weight(teacher: str, make_trainer: Any) -> None:
    trainer, plain = make_trainer(taught(teacher)), make_trainer(taught("", distillation=0.0), "plain")
    model, batch = trainer.model, first_batch(trainer, plain)
    tokens = model.vit(batch["images"])
    seen = model.auxiliary["teacher"](as_patches(batch["images"], 12, model.auxiliary["teacher"]))
    own = distillation_loss(model.auxiliary["student"](tokens), seen, None)
    assert_added(trainer, plain, batch, own, 0.5)
    assert all(p.grad is not None and p.grad.any() for p in model.vit.parameters())
    assert all(p.grad is None for p in model.auxiliary["teacher"].parameters())


def test_a_killed_run_goes_on_with_its_teacher(teacher: str, make_trainer: Any, tmp_path: Path) -> None:
    """The teacher is part of the checkpoint: what its folder holds by then does not matter."""
    recipe = taught(teacher, save_minutes=1e-9, keep=10, phases__0__samples=16)
    make_trainer(recipe, "whole").train()
    trainer = make_trainer(recipe, "broken")
    kill_at(trainer, 3)
    with pytest.raises(Killed):
        trainer.train()
    for newer in checkpoints(tmp_path / "broken")[1:]:
        shutil.rmtree(newer)
    before = open_model(Path(teacher))
    weights = {name: value + 1 for name, value in before.weights().items()}
    write_model(before.folder, weights, before.config, preprocess=before.preprocess, tokenizer=before.tokenizer)
    make_trainer(recipe, "broken").train()
    assert_same_run(tmp_path / "broken", tmp_path / "whole")


def test_mistakes_are_named(teacher: str, make_trainer: Any) -> None:
    for changes in ({"distillation": 0.0}, {"teacher": ""}):
        with pytest.raises(ValueError, match=r"set both, teacher, such as .*, and distillation, such as 1\.0"):
            taught(teacher, **changes)
    with pytest.raises(ValueError, match="train parts that no adapter holds"):
        taught(teacher, model__init={"": "any"}, model__lora={"rank": 2})
    with pytest.raises(FileNotFoundError, match="teacher: no model 'nobody'"):
        make_trainer(taught("nobody"))
    tokens = [{"samples": 8, "tokens": 9, "mixture": [{"source": "nano/single", "task": "contrastive"}]}]
    with pytest.raises(ValueError, match="has patches of 8 pixels and the student of 12"):
        make_trainer(taught(teacher, phases=tokens))
