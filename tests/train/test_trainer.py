"""The trainer: what it refuses, what it says when a run goes wrong, and resolution of stages and phases."""

from __future__ import annotations

import json
import multiprocessing
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny_runs import OBJECTIVES, break_samples, make_recipe, metrics_of

import openpali.train.trainer as trainer_module
import openpali_screen.read.objective as read_module
from openpali.data.media.images import Preprocess
from openpali.model.vit import resample_positions
from openpali.train.checkpoint import checkpoints
from openpali.train.phases import task_options
from openpali.train.start import inherit
from openpali.train.watch import Watch
from openpali.weights.format import open_model

TEXT = {"source": "nano/text", "task": "denoise"}
IMAGES = OBJECTIVES["sequence"]["source"]


# ---- refused before the first step


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__preset": "giant"}, "model.preset = 'giant' is neither one of pico, nano"),
        ({"phases__0__mixture__0__source": "nano/singel"}, "singel"),
        ({"phases__0__mixture__0__source": "nanoo/single"}, "unknown source 'nanoo/single': .*nano"),
        ({"phases__0__mixture__0__source": "single"}, "unknown source 'single'"),
        ({"phases__0__mixture__0__options": {"colour": 1}}, "single has no option .colour.; its options are none"),
        ({"phases__0__mixture__0__task": "captoin"}, "unknown task 'captoin'; did you mean 'caption'?"),
        ({"phases__0__mixture__0__task_options": {"langs": 1}}, "task caption has no option 'langs'"),
        ({"phases__0__size": 70}, "phases.0.size = 70 is not a multiple of the patch size 12"),
        ({"phases__0__size": "48x80"}, "phases.0.size = 48x80 is not a multiple of the patch size 12"),
        (
            {"model__resize": "pad", "phases__0__mixture__0__task": "detect"},
            'task detect writes coordinates, which model.resize = "pad" would shift: set it to "squash"',
        ),
        ({"model__init": {"": "nowhere"}}, "no model 'nowhere'"),
        (
            {"model__init": {"vti": "OLD"}},
            "model.init names 'vti', and the parts of the model are vit, project",
        ),
        ({"model__init": {"text": "OLD"}}, "do not fit: .*missing"),
    ],
)
def test_refused(changes, message, make_trainer, tmp_path) -> None:
    if "OLD" in changes.get("model__init", {}).values():
        old = make_trainer(make_recipe("classify", phases__0__samples=4), "old").train()
        changes = {"model__init": {part: str(old) for part in changes["model__init"]}}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        make_trainer(make_recipe(**changes))
    assert not checkpoints(tmp_path / "run")


def test_images_that_are_not_square_keep_their_proportions(make_trainer) -> None:
    line = {"source": "nano/line", "task": "ocr"}
    phases = [{"samples": 4, "size": size, "mixture": [line]} for size in (24, "24x96")]
    trained = make_trainer(make_recipe(model__resize="pad", phases=phases)).train()
    found = open_model(trained)
    assert found.preprocess == Preprocess(24, 96, policy="pad")
    assert found.model().vit.config.grid == (2, 8)
    again = inherit(make_recipe(model__init={"": str(trained)}, phases=phases))
    assert again.model.resize == "pad"


def test_a_later_phase_is_checked_at_the_start(make_trainer) -> None:
    phases = [{"samples": 8, "size": size, "mixture": [IMAGES]} for size in (48, 64)]
    with pytest.raises(ValueError):
        make_trainer(make_recipe(phases=phases))


def test_a_folder_that_cannot_be_written(make_trainer, tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    for run, why in (("file/run", "Not a directory"), ("run", "Read-only file system")):
        with pytest.raises(OSError, match=rf"{run}.* cannot be written .*{why}.*: fix that"):
            make_trainer(make_recipe(), run)


def test_the_seed_decides_where_a_run_starts(make_trainer) -> None:
    torch.manual_seed(17)
    first = make_trainer(make_recipe(seed=3), "a").model.state_dict()
    torch.manual_seed(18)
    again = make_trainer(make_recipe(seed=3), "b").model.state_dict()
    other = make_trainer(make_recipe(seed=4), "c").model.state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["project.weight"], other["project.weight"])


# ---- while it runs


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_parameter_gets_a_gradient_in_the_first_step(objective, make_trainer) -> None:
    trainer = make_trainer(make_recipe(objective, phases__0__samples=4))
    assert trainer.unreached == {name for name, _ in trainer.model.named_parameters()}
    trainer.train()
    assert trainer.unreached == set()


def test_parameters_without_gradient_stop_the_run(make_trainer) -> None:
    changes = {"phases__0__mixture": [TEXT], "phases__0__samples": 8, "max_prompt": 200, "max_target": 200}
    with pytest.raises(ValueError, match=r"no gradient has reached project.bias \(\d+ tensors in all\) in 2 steps"):
        make_trainer(make_recipe(**changes)).train()
    make_trainer(make_recipe(**changes, model__frozen=["vit", "project"]), "frozen").train()


def test_a_model_records_the_options_of_its_tasks() -> None:
    def detect(**options: object) -> dict[str, object]:
        return {"source": "nano/scene", "task": "detect", "task_options": options}

    first = {"samples": 4, "size": 72, "mixture": [detect(bins=8), IMAGES]}
    last = {"samples": 4, "size": 72, "mixture": [detect(bins=16, max_names=1), detect(bins=16, max_names=3)]}
    recipe = make_recipe(phases=[first, last])
    assert task_options(recipe) == {IMAGES["task"]: {}, "detect": {"bins": 16}}


def test_no_worker_outlives_a_run_that_fails(make_trainer) -> None:
    """Workers ignore SIGTERM, so a program with one left would not end."""
    changes = {"phases__0__mixture": [TEXT], "phases__0__samples": 8_000, "max_prompt": 200, "max_target": 200}
    with pytest.raises(ValueError, match=r"project.bias") as kept:
        make_trainer(make_recipe(**changes, workers=2)).train()
    assert kept.tb is not None  # and with it the stack frames of the run
    assert not multiprocessing.active_children()


def test_images_may_come_late(make_trainer) -> None:
    """A part that only some batches use is not reported, and every step updates it, as on several ranks."""
    mixture = [{**TEXT, "weight": 0.7}, {**IMAGES, "weight": 0.3}]
    trainer = make_trainer(make_recipe(phases__0__mixture=mixture, batch=1, max_prompt=200, max_target=200))
    with_images = []
    original = trainer._step

    def look(group, message) -> None:
        with_images.append("images" in group[0].batch)
        original(group, message)

    trainer._step = look
    trainer.train()
    assert not all(with_images)
    assert any(with_images)
    steps = {state["step"].item() for state in trainer.optimizer.state.values()}
    assert steps == {24}


def test_a_gradient_that_is_not_finite_is_named_and_changes_nothing(make_trainer, tmp_path) -> None:
    recipe = make_recipe(save_minutes=1e-9)
    trainer = make_trainer(recipe)
    trainer.model.project.bias.register_hook(lambda g: g * float("nan") if trainer.step == 3 else g)
    with pytest.raises(
        ValueError,
        match=r"^the gradient of project.bias is not finite at sample 12, with caption@nano/single\[",
    ):
        trainer.train()
    assert not (tmp_path / "run" / "quarantine.jsonl").exists()
    again = make_trainer(recipe)
    assert again.step == 3
    again.train()
    make_trainer(recipe, "whole").train()
    assert metrics_of(tmp_path / "run") == metrics_of(tmp_path / "whole")


@pytest.mark.parametrize(
    "parallel",
    [
        pytest.param({}, id="plain"),
        pytest.param({"checkpointing": "full"}, id="checkpointed"),
        pytest.param({"checkpointing": "full", "compile": True}, id="compiled", marks=pytest.mark.slow),
    ],
)
def test_the_first_module_and_the_sample_that_are_not_finite_are_named(parallel, make_trainer, monkeypatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    trainer = make_trainer(make_recipe(micro=2, parallel=parallel))
    keys = [trainer.stream[4 + i].key for i in range(4)]

    def spoil(module, inputs, output) -> None:
        if trainer.step == 1:
            output[1, 0] = float("nan")  # of the second image of each micro-batch

    trainer.model.vit.encoder.norm.register_forward_hook(spoil)
    named = (
        rf"^the output of vit.encoder.norm is not finite at sample 4, with {re.escape(f'{keys[1]}, {keys[3]}.')}"
    )
    with pytest.raises(ValueError, match=named):
        trainer.train()


def test_too_many_bad_samples_stop(make_trainer, tmp_path, monkeypatch) -> None:
    break_samples(monkeypatch, "nano/single", lambda index: index % 2 == 1)
    quarantine = tmp_path / "run" / "quarantine.jsonl"
    with pytest.raises(
        ValueError,
        match=rf"6 bad samples, more than max_bad = 5; they are listed in {quarantine}",
    ):
        make_trainer(make_recipe(max_bad=5)).train()
    lines = [json.loads(line) for line in quarantine.read_text().splitlines()]
    assert [line["samples"] for line in lines] == [0, 0, 4, 4, 8, 8]
    assert re.fullmatch(r"caption@nano/single\[(\d+)\]: image \1 is broken", lines[0]["problem"])


def test_reports_have_means_by_source(make_trainer, tmp_path, monkeypatch) -> None:
    """Also if a phase ends between two reports: names are those of each row's own phase."""
    monkeypatch.setattr(trainer_module, "LOG_EVERY", 4)
    phases = [
        {"samples": 8, "size": 48, "mixture": [{"source": "nano/single", "task": "caption"}]},
        {"samples": 12, "size": 72, "mixture": [{"source": "nano/word", "task": "ocr"}]},
    ]
    trainer = make_trainer(make_recipe(phases=phases))
    rows: list[list[float]] = []
    original = trainer.objective.losses

    def look(*args):
        losses = original(*args)
        rows.append(losses.per_row.tolist())
        return losses

    trainer.objective.losses = look
    trainer.train()
    reports = metrics_of(tmp_path / "run")
    assert [report["samples"] for report in reports] == [16, 20]  # the last one is short
    mean = {name: sum(map(sum, steps)) / 8 for name, steps in (("caption", rows[:2]), ("ocr", rows[2:4]))}
    assert reports[0]["losses"] == pytest.approx(
        {"caption@nano/single": mean["caption"], "ocr@nano/word": mean["ocr"]}
    )
    assert reports[1]["losses"] == pytest.approx({"ocr@nano/word": sum(rows[4]) / 4})


def test_what_cannot_be_measured_is_not_reported(make_trainer, tmp_path) -> None:
    """Sides of images without objects."""
    word = {"source": "nano/word", "task": "contrastive"}
    recipe = make_recipe("siglip", regions=1.0, dense=True, sides=1.0, phases__0__mixture=[word])
    trainer = make_trainer(recipe)
    original = trainer.objective.losses
    trainer.objective.losses = lambda batch, weight: original(
        {**batch, "region_names": torch.full_like(batch["region_names"], -1)}, weight
    )
    trainer._check_reached = lambda: None  # the sides have no gradient
    trainer.train()
    [report] = metrics_of(tmp_path / "run")
    assert set(report["extra"]) == {"temperature", "bias", "regions"}


@pytest.mark.parametrize("size", ["48x192", "16x192"])
def test_lines_have_the_height_of_a_reader(make_trainer, size: str) -> None:
    with pytest.raises(ValueError, match=f'phases.0.size = {size}: .* "32x192"'):
        make_trainer(make_recipe("read", phases__0__size=size))


def test_a_reader_keeps_the_characters_of_its_start(make_trainer, monkeypatch) -> None:
    """Lines are encoded in these, not in those of a reader from nothing."""
    fewer = read_module.CHARACTERS[:-1]
    with monkeypatch.context() as patch:
        patch.setattr(read_module, "CHARACTERS", fewer)
        begun = str(make_trainer(make_recipe("read", phases__0__samples=4), "begun").train())
    trainer = make_trainer(make_recipe("read", model__preset=begun, model__init={"": begun}))
    assert trainer.objective.config.characters == trainer.objective.encoder.characters == fewer


@pytest.mark.parametrize("file", ["metrics.jsonl", "quarantine.jsonl"])
def test_a_full_disk_is_named_with_the_log_and_the_checkpoint(file, make_trainer, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(trainer_module, "LOG_EVERY", 4)
    trainer = make_trainer(make_recipe(save_minutes=1e-9))
    (tmp_path / "run" / file).symlink_to("/dev/full")
    if file == "quarantine.jsonl":
        broken: list[int] = []  # one
        break_samples(
            monkeypatch, "nano/single", lambda i: trainer.step >= 3 and not broken and not broken.append(i)
        )
    with pytest.raises(
        OSError,
        match=rf"{file} cannot be written \(.*No space left.* the same command goes on from step-0000000[23]$",
    ):
        trainer.train()


def test_images_of_a_run_are_drawn_and_never_end_it(make_trainer, capsys) -> None:
    trainer = make_trainer(make_recipe(keep_every=8))
    drawn = []

    def look(model: torch.nn.Module) -> None:
        assert model is trainer.model
        drawn.append(trainer.step)
        raise RuntimeError("no font")

    trainer.train(Watch(look))
    assert drawn == [2, 4, 6]
    shown = f"no images of the run at sample {4 * drawn[0]} (RuntimeError('no font')); training goes on"
    assert shown in capsys.readouterr().out


def test_a_folder_belongs_to_one_process(make_trainer, tmp_path) -> None:
    (tmp_path / "run").mkdir()
    code = (
        "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run" / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(
            ValueError, match=r"run is trained by another process: wait for its end, or name another"
        ):
            make_trainer(make_recipe())
        other.communicate("\n")
    make_trainer(make_recipe())


# ---- resolution


def _positions(folder: Path) -> tuple[torch.Tensor, tuple[int, int]]:
    stored = open_model(folder)
    return stored.weights()["vit.positions"], stored.config.vision.grid


def test_a_stage_starts_at_the_resolution_of_the_previous_one(make_trainer) -> None:
    """10 x 10 to 10 x 10 changes nothing, although the preset's grid is 6 x 6."""
    old = make_trainer(make_recipe(phases__0__size=120, phases__0__samples=4), "old").train()
    positions, grid = _positions(old)
    assert grid == (10, 10)
    same = make_trainer(make_recipe(phases__0__size=120, model__init={"vit": str(old)}), "same")
    assert torch.equal(same.model.vit.positions, positions)
    smaller = make_trainer(make_recipe(phases__0__size=96, model__init={"": str(old)}), "smaller")
    assert torch.equal(smaller.model.vit.positions, resample_positions(positions, (10, 10), (8, 8)))
    frozen = make_trainer(
        make_recipe(phases__0__size=96, model__init={"vit": f"{old}#vit"}, model__frozen=["vit"]), "frozen"
    )
    assert not frozen.model.vit.positions.requires_grad
    assert frozen.model.vit.config.grid == (8, 8)


@pytest.mark.parametrize("frozen", [[], ["vit"]])
def test_phases_change_the_resolution(frozen, make_trainer, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(trainer_module, "LOG_EVERY", 2)  # a report of each phase
    phases = [{"samples": 8, "size": size, "mixture": [IMAGES]} for size in (48, 96, 96)]
    trainer = make_trainer(make_recipe(phases=phases, model__frozen=frozen, save_minutes=1e-9, keep=10))
    trainer.train()
    model = trainer.model
    grouped = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert grouped == {id(p) for p in model.parameters() if p.requires_grad}
    assert model.vit.positions.shape == (64, 32)
    assert model.vit.positions.is_contiguous()  # otherwise its norm, and so the clipping, differs after a resume
    assert set(trainer.optimizer.state) == {p for p in model.parameters() if p.requires_grad}
    if not frozen:  # its moments were reset, once
        assert trainer.optimizer.state[model.vit.positions]["step"] == 4
        assert trainer.optimizer.state[model.project.weight]["step"] == 6
    stored = open_model(tmp_path / "run" / "model")
    assert stored.config.vision.grid == (8, 8)
    assert (stored.preprocess.height, stored.preprocess.width) == (96, 96)
