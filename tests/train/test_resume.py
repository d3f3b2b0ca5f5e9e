"""A run that is killed and resumed equals one that was not, bit for bit; and errors of a damaged folder."""

from __future__ import annotations

import json
import re
import resource
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_runs import (
    OBJECTIVES,
    assert_equal,
    assert_same_run,
    break_samples,
    make_recipe,
    metrics_of,
    train_and_kill,
    write_captions,
)
from tiny_runs import tensors_of as newest_of

import openpali.train.checkpoint as checkpoint_module
import openpali.train.trainer as trainer_module
from openpali.distributed import ALONE
from openpali.train.checkpoint import Checkpoints, allocate, checkpoints, load_checkpoint, step_of, tensors_of
from openpali.train.optim.optimizer import rate
from openpali.train.recipe import Recipe
from openpali.train.recipe_file import as_toml
from openpali.train.run_folder import RunFolder
from openpali.train.snapshot import export_checkpoint
from openpali.train.watch import Watch
from openpali.weights.format import open_model

ALWAYS = 1e-9  # minutes between checkpoints: one after every step
SCENES = [{"source": "nano/scene", "task": "object_vqa"}, {"source": "nano/word", "task": "ocr"}]
CHANGES = {
    **{objective: (objective, {}) for objective in OBJECTIVES if objective not in ("sequence", "siglip")},
    "adafactor-dropout": (
        "sequence",
        {"optimizer__name": "adafactor", "optimizer__schedule": "cosine", "model__dropout": 0.2, "micro": 2},
    ),
    "muon-average": (
        "siglip",
        {"optimizer__name": "muon", "optimizer__weight_decay": 0.1, "ema": 0.9},
    ),
    "native": (
        "siglip",
        {
            "regions": 1.0,
            "model__resize": "native",
            "phases": [
                {"samples": 12, "tokens": 40, "mixture": [{"source": "nano/scene", "task": "contrastive"}]},
                {"samples": 12, "tokens": 20, "mixture": [OBJECTIVES["siglip"]["source"]]},
            ],
        },
    ),
    "native-answers": (
        "sequence",
        {
            "model__resize": "native",
            "ema": 0.5,
            "max_prompt": 96,
            "phases": [
                {"samples": 12, "tokens": 50, "mixture": [{"source": "nano/line", "task": "ocr"}]},
                {"samples": 12, "tokens": 100, "mixture": SCENES},
            ],
        },
    ),
    "learning-rates": (
        "find",
        {
            "ema": 0.5,
            "optimizer": {"name": "muon", "lr": 1e-3, "schedule": "constant", "cooldown": 4},
            "phases": [
                {"samples": 12, "size": 96, "mixture": [OBJECTIVES["find"]["source"]]},
                {"samples": 12, "size": 96, "lr": 5e-4, "warmup": 4, "mixture": [OBJECTIVES["find"]["source"]]},
            ],
        },
    ),
    "phases": (
        "sequence",
        {
            "parallel": {"checkpointing": "selective"},
            "optimizer": {"lr": 1e-3, "schedule": "rsqrt", "warmup": 8, "cooldown": 8},
            "max_prompt": 96,
            "ema": 0.5,
            "phases": [
                {"samples": 12, "size": 48, "mixture": [OBJECTIVES["sequence"]["source"]]},
                {"samples": 12, "size": 96, "mixture": SCENES},
            ],
        },
    ),
}


@pytest.fixture(autouse=True)
def _report_every_fourth_step(monkeypatch) -> None:
    monkeypatch.setattr(trainer_module, "LOG_EVERY", 4)


@pytest.mark.parametrize("case", CHANGES)
def test_a_killed_run_equals_one_that_was_not(case, make_trainer, tmp_path) -> None:
    objective, changes = CHANGES[case]
    recipe = make_recipe(objective, save_minutes=ALWAYS, keep=10, **changes)
    make_trainer(recipe, "whole").train()
    twice = ((0, 4, 3), (3, 6, 2))  # the first phase has 3 steps
    for resumed_at, killed_in, saved_after in twice if case in ("phases", "native-answers") else ((0, 4, 2),):
        trainer = make_trainer(recipe, "broken")
        assert trainer.step == resumed_at
        train_and_kill(trainer, killed_in)
        for newer in checkpoints(tmp_path / "broken")[saved_after:]:
            shutil.rmtree(newer)  # reports since then are written again
    again = make_trainer(recipe, "broken")
    assert again.step == 2
    again.train()
    assert_same_run(tmp_path / "broken", tmp_path / "whole")


def test_a_finished_run_is_not_trained_again(make_trainer, tmp_path, monkeypatch, openpali) -> None:
    recipe = make_recipe()
    make_trainer(recipe, "once").train()
    written = make_trainer(recipe, "twice").train()
    record, config = tmp_path / "twice" / "recipe.json", written / "config.json"
    before = record.read_text(), config.read_text(), config.stat().st_mtime_ns
    other = make_recipe(optimizer__lr=1e-5)
    (tmp_path / "other.toml").write_text(as_toml(other.model_dump()))
    monkeypatch.setattr(Watch, "saved", lambda *_: None)  # a second
    monkeypatch.setattr(trainer_module.Trainer, "summary", lambda *_: ["and the summary"])
    shown = openpali("train", tmp_path / "other.toml", "--run", tmp_path / "twice")
    assert re.search(r"tiny/sequence is finished; nothing was trained.*\nand the summary", shown)
    assert (record.read_text(), config.read_text(), config.stat().st_mtime_ns) == before
    config.unlink()  # as if the run was killed before it wrote its model
    make_trainer(other, "twice").train()
    assert (record.read_text(), config.read_text()) == before[:2]
    assert_same_run(tmp_path / "once", tmp_path / "twice")
    assert len(checkpoints(tmp_path / "twice")) == 1


def test_quarantine_lists_every_bad_sample_once(make_trainer, tmp_path, monkeypatch) -> None:
    break_samples(monkeypatch, "nano/single", lambda index: index % 3 == 0)
    recipe = make_recipe(save_minutes=ALWAYS, keep=10)
    make_trainer(recipe, "whole").train()
    train_and_kill(make_trainer(recipe, "broken"), 5)
    for newer in checkpoints(tmp_path / "broken")[2:]:
        shutil.rmtree(newer)
    trainer = make_trainer(recipe, "broken")
    trainer.train()
    log = tmp_path / "broken" / "quarantine.jsonl"
    assert [*trainer.summary()] == [f"8 samples could not be used; they are listed in {log}"]
    assert_same_run(tmp_path / "broken", tmp_path / "whole")
    logs = [(tmp_path / run / "quarantine.jsonl").read_text() for run in ("whole", "broken")]
    assert logs[0] == logs[1]
    assert logs[0].count("is broken") == metrics_of(tmp_path / "whole")[-1]["bad"] == 8


def test_resuming_does_not_change_the_checkpoint(make_trainer, tmp_path) -> None:
    """The optimizer updates its moments in place, and they were read from this file."""
    recipe = make_recipe(save_minutes=ALWAYS, keep=10)
    make_trainer(recipe).train()
    for newer in checkpoints(tmp_path / "run")[2:]:
        shutil.rmtree(newer)
    files = sorted(checkpoints(tmp_path / "run")[-1].iterdir())
    before = [file.read_bytes() for file in files]
    make_trainer(recipe).train()
    assert [file.read_bytes() for file in files] == before


def test_moments_follow_the_layout_of_their_parameter(tmp_path) -> None:
    """Fused kernels read parameter and moments in memory order, whatever their strides."""

    def start() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 5, bias=False)
        model.weight = torch.nn.Parameter(torch.randn(3, 5).T)
        return model, torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        (model.weight * torch.arange(15.0).view(5, 3)).square().sum().backward()
        optimizer.step()

    model, optimizer = start()
    step(model, optimizer)
    kept = Checkpoints(tmp_path, ALONE, keep=1)
    saved = kept.save(1, tensors_of(model, optimizer, {}), {})
    step(model, optimizer)  # while the checkpoint is written
    kept.wait()
    again, its_optimizer = start()
    allocate(its_optimizer)
    load_checkpoint(saved, tensors_of(again, its_optimizer, {}), ALONE)
    step(again, its_optimizer)
    assert torch.equal(again.weight, model.weight)


def test_half_written_checkpoints_are_ignored_and_removed(make_trainer, tmp_path) -> None:
    recipe = make_recipe(save_minutes=ALWAYS, keep=2)
    train_and_kill(make_trainer(recipe), 4)
    folder = tmp_path / "run" / "checkpoints"
    unfinished = folder / ".writing-step-00000004"
    unfinished.mkdir()
    (unfinished / "shard.safetensors").write_bytes(b"half")
    again = make_trainer(recipe)
    assert again.step == 3
    again.train()
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000005", "step-00000006"]


def test_a_damaged_checkpoint_says_what_to_do(make_trainer, tmp_path) -> None:
    recipe = make_recipe(save_minutes=ALWAYS, keep=2)
    make_trainer(recipe).train()
    newest = checkpoints(tmp_path / "run")[-1]
    for file in ("shard-*.safetensors", "state.json", "*.safetensors.sha256"):
        [damaged] = newest.glob(file)
        whole = damaged.read_bytes()
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        for damage in (whole[:-20], flipped, None):
            if damage is None:
                damaged.unlink()
            else:
                damaged.write_bytes(damage)
            message = rf"{newest.name} is damaged .*: delete it to resume from the one before"
            with pytest.raises(ValueError, match=message):
                make_trainer(recipe)
            damaged.write_bytes(whole)
    assert make_trainer(recipe).step == 6
    shutil.rmtree(newest)
    assert make_trainer(recipe).step == 5


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_earlier_checkpoints_survive_a_failing_disk(fault, make_trainer, tmp_path, monkeypatch) -> None:
    """The full disk is a limit on file sizes, enforced by the OS."""
    recipe = make_recipe(save_minutes=ALWAYS)
    trainer = make_trainer(recipe)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    original, mkdir = trainer.optimizer.step, Path.mkdir

    def refuse(path: Path, *args: object, **kwargs: object) -> None:
        if path.name == ".writing-step-00000003":
            raise OSError(30, "Read-only file system", str(path))
        mkdir(path, *args, **kwargs)

    def step() -> None:
        original()
        if trainer.step + 1 == 3 and fault == "full":
            trainer.checkpoints.wait()
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))

    trainer.optimizer.step = step  # type: ignore[method-assign]
    try:
        with monkeypatch.context() as patch:
            if fault == "read-only":
                patch.setattr(Path, "mkdir", refuse)
            reason = "too large" if fault == "full" else "Read-only"
            with pytest.raises(OSError, match=rf"step-00000003 cannot be written .*{reason}.* from step-00000002$"):
                trainer.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(p.name for p in (tmp_path / "run/checkpoints").iterdir()) == ["step-00000001", "step-00000002"]
    make_trainer(recipe).train()
    make_trainer(recipe, "whole").train()
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_a_checkpoint_that_lacks_a_file_is_not_completed(make_trainer, tmp_path, monkeypatch) -> None:
    """As if ranks saw different folders."""
    seal = checkpoint_module._seal

    def lose(file: Path) -> None:
        seal(file)
        if file.suffix == ".safetensors":
            file.unlink()

    monkeypatch.setattr(checkpoint_module, "_seal", lose)
    with pytest.raises(OSError, match=r"cannot be written \(shard-.*safetensors, written by a rank, is missing"):
        make_trainer(make_recipe(phases__0__samples=4)).train()
    assert not checkpoints(tmp_path / "run")


def test_the_newest_are_kept_and_one_every_so_often(make_trainer, tmp_path) -> None:
    make_trainer(make_recipe(save_minutes=ALWAYS, keep=1, keep_every=8)).train()
    assert [step_of(path) for path in checkpoints(tmp_path / "run")] == [2, 4, 6]
    make_trainer(make_recipe(keep=1, keep_every=12), "by samples alone").train()
    assert [step_of(path) for path in checkpoints(tmp_path / "by samples alone")] == [3, 6]


def test_every_interval_keeps_a_checkpoint_whatever_the_batch(make_trainer, tmp_path) -> None:
    """48 samples a step, 100,000 an interval: in floats, step 6250 comes before the third one."""
    steps = [4167, 6249, 6250, 6251]
    for step in steps:
        (tmp_path / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
    own = make_trainer(make_recipe(batch=48, keep_every=100_000, phases__0__samples=48)).checkpoints
    Checkpoints(tmp_path, ALONE, 1, own.keep_every)
    assert [step_of(path) for path in checkpoints(tmp_path)] == [4167, 6250, 6251]


def test_an_old_checkpoint_that_cannot_be_deleted_ends_no_run(make_trainer, tmp_path, monkeypatch) -> None:
    remove = shutil.rmtree

    def keep(path, ignore_errors=False) -> None:
        if not ignore_errors:
            raise PermissionError(path)

    monkeypatch.setattr(shutil, "rmtree", keep)
    make_trainer(make_recipe(save_minutes=ALWAYS, keep=1, phases__0__samples=12)).train()
    assert [step_of(path) for path in checkpoints(tmp_path / "run")] == [1, 2, 3]
    monkeypatch.setattr(shutil, "rmtree", remove)
    make_trainer(make_recipe(keep=1, phases__0__samples=12))
    assert [step_of(path) for path in checkpoints(tmp_path / "run")] == [3]


def test_a_finished_run_keeps_its_last_checkpoint_unless_the_recipe_says_how_many(make_trainer, tmp_path) -> None:
    held = {"name": "mine", "source": "nano/single", "task": "caption", "every": 8, "limit": 1}
    recipe = make_recipe(save_minutes=ALWAYS, keep_every=12, evals=[held], keep_best="mine/loss")
    trainer = make_trainer(recipe)
    seen = []
    export = trainer._export
    trainer._export = lambda name: seen.append([*map(step_of, checkpoints(tmp_path / "run"))]) or export(name)
    trainer.train()
    assert seen[-1][-2:] == [5, 6]
    assert [step_of(path) for path in checkpoints(tmp_path / "run")] == [3, 6]
    longer = make_recipe(
        save_minutes=ALWAYS, keep_every=12, evals=[held], keep_best="mine/loss", phases__0__samples=28
    )
    make_trainer(longer).train()
    assert [step_of(path) for path in checkpoints(tmp_path / "run")] == [3, 6, 7]  # every third step, and the last
    make_trainer(make_recipe(save_minutes=ALWAYS, keep=2), "two").train()
    assert [step_of(path) for path in checkpoints(tmp_path / "two")] == [5, 6]


def test_a_missing_source_stops_the_run_until_it_is_back(make_trainer, tmp_path) -> None:
    images = tmp_path / "images"
    line = {"source": str(write_captions(images, ["red"] * 24)), "task": "caption"}
    recipe = make_recipe(phases__0__mixture=[line], save_minutes=ALWAYS)
    make_trainer(recipe, "whole").train()
    trainer = make_trainer(recipe)
    original = trainer.optimizer.step
    away = tmp_path / "away"

    def step() -> None:
        original()
        if trainer.step == 1:
            images.rename(away)

    trainer.optimizer.step = step  # type: ignore[method-assign]
    with pytest.raises(
        ValueError, match=r"^(8 samples in a row cannot be used|\d+ bad samples, more than)"
    ) as raised:
        trainer.train()
    assert "Traceback" not in str(raised.value)
    away.rename(images)
    make_trainer(recipe).train()
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_a_folder_is_claimed_by_its_recipe(make_trainer, tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        make_trainer(make_recipe(seed=2, model__init={"vit": "nowhere"}))
    assert (tmp_path / "run" / "recipe.json").is_file()
    make_trainer(make_recipe()).train()  # the other run saved nothing
    with pytest.raises(ValueError):
        make_trainer(make_recipe(seed=1, optimizer__name="adafactor"))
    line = {"source": "nano/word", "task": "ocr", "options": {"a": 1}}
    for changes, fix in (
        ({"phases__0__samples": 20}, r"another phases\.0\.samples \(24, not 20\): delete it"),
        (
            {"phases__0__size": 48, "phases__0__mixture__0": line},
            r"phases.0.size \(72, not 48\), .*source .*, .*task .*, and 2 more: delete it",
        ),
    ):
        with pytest.raises(ValueError, match=fix):
            RunFolder(tmp_path / "run").check(make_recipe(**changes))
    make_trainer(make_recipe(optimizer__lr=1e-4, keep=1))  # these may change during a run
    file = tmp_path / "run" / "recipe.json"
    file.write_text(file.read_text()[:-30])
    with pytest.raises(ValueError, match=r"recipe.json"):
        make_trainer(make_recipe())


# ---- extensions of a finished run


def test_an_extended_run_is_one_that_was_longer_from_the_start(make_trainer, tmp_path) -> None:
    """Where the learning rate does not depend on the length: weights, moments, average and data."""
    make_trainer(make_recipe(ema=0.5, phases__0__samples=8)).train()
    make_trainer(make_recipe(ema=0.5, phases__0__samples=20)).train()
    make_trainer(make_recipe(ema=0.5, phases__0__samples=20), "long").train()
    assert_equal(*(newest_of(tmp_path / run) for run in ("run", "long")))
    assert open_model(tmp_path / "run" / "model").facts.samples == 20


def test_an_extension_that_is_killed_resumes(make_trainer, tmp_path) -> None:
    cosine = {"optimizer__schedule": "cosine", "optimizer__lr_scale": {"vit": 0.5}}
    make_trainer(make_recipe(**cosine, phases__0__samples=16), "whole").train()
    shutil.copytree(tmp_path / "whole", tmp_path / "broken")
    longer = make_recipe(**cosine, phases__0__samples=32, keep_every=8)
    make_trainer(longer, "whole").train()
    train_and_kill(make_trainer(longer, "broken"), 7)
    make_trainer(longer, "broken").train()
    assert_same_run(tmp_path / "broken", tmp_path / "whole")
    before, after = metrics_of(tmp_path / "whole")
    assert before["learning_rate"] == pytest.approx(1e-3 * rate(longer.optimizer, 12, 16))
    assert after["learning_rate"] == pytest.approx(1e-3 * rate(longer.optimizer, 28, 32))


def test_only_the_last_phase_of_a_finished_run_is_extended(make_trainer, tmp_path) -> None:
    short: dict[str, Any] = {"phases__0__samples": 8, "keep_every": 4}
    longer = make_recipe(phases__0__samples=16, keep_every=4)
    train_and_kill(make_trainer(make_recipe(**short)), 2)
    refused = r"another phases\.0\.samples \(8, not 16\): .*; only the last phase of a finished run"
    with pytest.raises(ValueError, match=refused):
        make_trainer(longer)
    make_trainer(make_recipe(**short)).train()
    with pytest.raises(ValueError):
        make_trainer(make_recipe(phases__0__samples=16, seed=1))
    make_trainer(longer).train()
    with pytest.raises(ValueError, match=r"another phases\.0\.samples \(16, not 8\)"):
        make_trainer(make_recipe(**short))


def classes_of_files(folder: Path, labels: Sequence[str]) -> Recipe:
    """A recipe that classifies the images of a JSONL file, one for each label."""
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(folder / "one.png")
    lines = [json.dumps({"images": ["one.png"], "label": label}) + "\n" for label in labels]
    (folder / "mine.jsonl").write_text("".join(lines))
    line = {"source": str(folder / "mine.jsonl"), "task": "classify"}
    return make_recipe("classify", phases__0__samples=8, phases__0__mixture=[line], keep=9, keep_every=4)


def test_a_run_does_not_go_on_with_other_classes(make_trainer, tmp_path) -> None:
    recipe, data = classes_of_files(tmp_path / "data", ["cubism", "fauvism"]), tmp_path / "data"
    train_and_kill(make_trainer(recipe), 2)
    classes_of_files(data, ["baroque", "cubism"])
    with pytest.raises(ValueError, match=r"classes of the data changed since the run began"):
        make_trainer(recipe)
    folder = export_checkpoint(checkpoints(tmp_path / "run")[-1])  # does not ask the data
    assert open_model(folder).config.labels == ("cubism", "fauvism")
    classes_of_files(data, ["fauvism", "cubism"])
    make_trainer(recipe).train()
