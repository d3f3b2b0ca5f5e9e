"""What watches a run: the log, curves, samples, TensorBoard, and the sentence at its end."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_runs import make_recipe

import openpali.progress as lines_module
import openpali.reports.samples as samples_module
import openpali.train.trainer as trainer_module
import openpali.train.watch as watch_module
from openpali.progress import plain_console
from openpali.reports.curves import draw_curves
from openpali.reports.samples import draw_samples
from openpali.train.watch import Watch, describe_outcome

write_tensorboard = watch_module._tensorboard  # conftest takes it from every other test


@pytest.fixture(autouse=True)
def _report_every_second_step(monkeypatch) -> None:
    monkeypatch.setattr(trainer_module, "LOG_EVERY", 2)


def test_memory_is_the_peak_of_the_process(make_trainer, tmp_path) -> None:
    make_trainer(make_recipe()).train()
    memory = [json.loads(line)["memory"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(50e6 < held < 64e9 for held in memory)
    assert memory == sorted(memory)


def test_plot_draws_a_run(make_trainer, tmp_path, monkeypatch, openpali) -> None:
    make_trainer(make_recipe()).train()
    out = tmp_path / "new" / "curves"
    assert str(out) in openpali("runs", "--plot", tmp_path / "run", "--out", out)
    assert len(Image.open(out).convert("RGB").getcolors(2**24)) > 20
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path))
    (tmp_path / "runs" / "nowhere").mkdir(parents=True)
    (tmp_path / "runs" / "nowhere" / "recipe.json").touch()
    (tmp_path / "run").rename(tmp_path / "runs" / "mine-ocr")
    for name, message in (
        ("nowhere", "nowhere has no curves to draw"),
        ("mine-orc", "no run 'mine-orc'.* did you mean 'mine-ocr'"),
    ):
        assert re.search(message, openpali("runs", "--plot", name, fails=True))


def test_curves_leave_out_a_truncated_report(make_trainer, tmp_path) -> None:
    run = tmp_path / "run"
    make_trainer(make_recipe()).train()
    whole, plot = (run / "metrics.jsonl").read_bytes(), draw_curves(run).read_bytes()
    (run / "metrics.jsonl").write_bytes(whole + whole[:50])
    assert draw_curves(run).read_bytes() == plot
    (run / "metrics.jsonl").write_bytes(whole[:50] + b"\n" + whole)
    with pytest.raises(ValueError, match=r"metrics.jsonl:1 is not valid JSON: "):
        draw_curves(run)


@pytest.mark.parametrize("at", [0, 24])  # and at the end, when no samples come next
def test_answers_are_drawn_on_their_images(at, make_trainer, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(samples_module, "COUNT", 3)
    trainer = make_trainer(make_recipe())
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}
    draw_samples(trainer.model, trainer.stream, at, tmp_path / "samples.png")
    sheet = Image.open(tmp_path / "samples.png")
    assert sheet.format == "PNG"
    assert sheet.width >= 3 * 200
    assert len(sheet.convert("RGB").getcolors(2**24)) > 20
    assert trainer.model.training
    assert all(torch.equal(p, before[name]) for name, p in trainer.model.named_parameters())


def test_tensorboard_gets_every_report(make_trainer, monkeypatch) -> None:
    board = SimpleNamespace(seen=[], add_scalar=lambda *args: board.seen.append(args), close=lambda: None)
    monkeypatch.setattr(watch_module, "_tensorboard", lambda *_: board)
    make_trainer(make_recipe()).train(Watch())
    assert [at for name, _, at in board.seen if name == "loss"] == [8, 16, 24]
    assert {"loss/caption@nano/single", "learning_rate", "memory", "gradient_norm", "bad"} <= {
        name for name, *_ in board.seen
    }


def test_tensorboard_continues_where_the_run_does(tmp_path) -> None:
    for samples, values in ((0, [3.0, 2.0, 9.0]), (16, [1.0])):  # killed after 24, resumed from 16
        board = write_tensorboard(tmp_path, samples)
        for number, value in enumerate(values, start=1):
            board.add_scalar("loss", value, samples + 8 * number)
        board.close()
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in found.Scalars("loss")] == [(8, 3.0), (16, 2.0), (24, 1.0)]


def test_the_share_of_time_spent_waiting_for_data_is_reported(make_trainer, tmp_path, monkeypatch) -> None:
    now, load = [0.0], trainer_module.load

    def late(*args, **options):
        for group in load(*args, **options):
            now[0] += 3
            yield group

    def slow(group, message) -> None:
        now[0] += 1
        step(group, message)

    monkeypatch.setattr(trainer_module, "load", late)
    clock = SimpleNamespace(perf_counter=lambda: now[0], monotonic=time.monotonic)
    monkeypatch.setattr(trainer_module, "time", clock)
    trainer = make_trainer(make_recipe())
    step = trainer._step
    monkeypatch.setattr(trainer, "_step", slow)
    trainer.train()
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["data_wait"] == pytest.approx(3 / 4)
    assert first["samples_per_second"] == pytest.approx(trainer.recipe.batch / 4)


def test_without_a_terminal_a_run_says_how_far_it_is(make_trainer, capsys, monkeypatch) -> None:
    monkeypatch.setattr(lines_module, "PERIOD", 0.0)
    make_trainer(make_recipe()).train(Watch())
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" of 24 samples")[0] for line in lines if " left" in line] == [
        f"tiny/sequence: {done}" for done in (4, 8, 8, 12, 16, 16, 20)
    ]
    assert lines[0] == "tiny/sequence: 0 of 24 samples"
    assert lines[-1].startswith("tiny/sequence: 24 of 24 samples, loss ")
    assert lines[-1].endswith(" samples/s")


def test_the_display_fits_into_80_columns(make_trainer, monkeypatch) -> None:
    """Names of sources are whole, and all values are there."""
    file = io.StringIO()
    console = plain_console(file=file, force_terminal=True, width=80)
    monkeypatch.setattr(watch_module, "plain_console", lambda **_: console)
    make_trainer(make_recipe()).train(Watch())
    shown = [re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]|\r", "", line) for line in file.getvalue().splitlines()]
    assert max(map(len, shown)) <= 80
    assert any(line.startswith("caption@nano/single ") and "drawn" in line for line in shown)
    assert all(f" {what}" in " ".join(shown) for what in ("samples/s", "data wait,", "GB,", "lr", "bad"))


# ---- the sentence at the end

EVALS = {"evals": [{"name": "mine", "source": "mine.jsonl", "task": "ocr", "every": 4}], "keep_best": "mine"}


def outcome(tmp_path: Path, losses: Sequence[float], scores: Sequence[float] = (), **changes: Any) -> str:
    """Of a run whose losses are held-out ones if there are scores."""
    file, rows = tmp_path / "metrics.jsonl", []
    for number, loss in enumerate(losses):
        if scores:
            values = {"cer": scores[number], "loss": loss}
            rows.append({"samples": 4 * number, "eval": "mine", "metric": "cer", "scores": values})
        else:
            rows.append({"samples": 4 * number, "loss": loss})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return describe_outcome(make_recipe(**(EVALS if scores else {}), **changes), file)


FALLING = [3.0, 2.0, 1.5, 1.2, 1.0, 0.8, 0.6]
FLAT = [3.0, 2.0, 1.5, 1.2, 1.0, 1.0, 0.99]
RISING = [3.0, 2.0, 1.0, 1.1, 1.2, 1.3, 1.4]


@pytest.mark.parametrize(
    ("losses", "scores", "expected"),
    [
        (FALLING, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], "still improving: the held-out loss "),
        (FLAT, [0.9, 0.8, 0.7, 0.6, 0.5, 0.5, 0.5], "settled: the held-out loss "),
        (RISING, [0.9, 0.8, 0.5, 0.4, 0.5, 0.5, 0.5], "overfitting since sample 8: "),
        (RISING, [0.9, 0.8, 0.5, 0.4, 0.4, 0.4, 0.3], "settled: the held-out loss "),  # the error rate still falls
        (FALLING, [], "still improving: the loss "),
        (RISING, [], "settled: the loss "),
        (FALLING[:2], [], ""),
        ([float("nan")] * 7, [float("nan")] * 7, ""),
        ([], [], ""),
    ],
)
def test_a_run_says_what_it_has_come_to(
    tmp_path: Path, losses: list[float], scores: list[float], expected: str
) -> None:
    found = outcome(tmp_path, losses, scores)
    assert found.startswith(expected)
    assert bool(found) == bool(expected)


def test_scores_of_another_task_under_the_same_name_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    rows = [
        {"samples": samples, "eval": "mine", "metric": name, "scores": {name: 1 / samples}}
        for samples, name in ((4, "cer"), (8, "acc"))
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert describe_outcome(make_recipe(**EVALS), file) == ""


def test_the_run_can_go_on_as_the_sentence_says(tmp_path: Path) -> None:
    assert "phases.0.samples=36 " in outcome(tmp_path, FALLING)  # half as much again
