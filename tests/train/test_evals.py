"""``[[evals]]``: scores while a run trains, which change nothing of it; the best checkpoint; early stops."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from rank_jobs import EVALUATED, TRAINED, record_of, run_jobs, shares_of
from tiny_runs import (
    Killed,
    assert_equal,
    assert_same_run,
    make_recipe,
    metrics_of,
    tensors_of,
    train_and_kill,
    write_captions,
)

import openpali.train.evals as evals_module
import openpali.train.trainer as trainer_module
import openpali.train.watch as watch_module
from openpali.distributed import ALONE
from openpali.eval.evaluators import AnswerEvaluator, LossEvaluator
from openpali.infer.pali import Pali
from openpali.reports.curves import draw_curves
from openpali.train.checkpoint import checkpoints, read_state, step_of
from openpali.train.evals import Best, open_evaluations
from openpali.train.load import load_recipe
from openpali.train.trainer import Trainer
from openpali.weights.bundle import open_tokenizer
from openpali.weights.format import open_model

ALWAYS = 1e-9  # minutes between checkpoints: one after every step


@pytest.fixture(autouse=True)
def _report_every_second_step(monkeypatch) -> None:
    monkeypatch.setattr(trainer_module, "LOG_EVERY", 2)


@pytest.fixture
def mine(tmp_path: Path) -> dict[str, Any]:
    """An evaluation on five images of our own."""
    held_out = write_captions(tmp_path / "mine", ["red" * (number + 1) for number in range(5)])
    return {"name": "mine", "source": str(held_out), "task": "caption", "every": 8}


@pytest.fixture
def scripted(monkeypatch) -> dict[int, float]:
    """Step -> the score ``cider`` there, in place of the real one."""
    values: dict[int, float] = {}
    original = evals_module.Evaluations.note

    def notice(self, found):
        return original(self, replace(found, scores={**found.scores, "cider": values[found.step]}))

    monkeypatch.setattr(evals_module.Evaluations, "note", notice)
    return values


def evaluations_of(run: Path) -> list[dict[str, Any]]:
    return [row for row in metrics_of(run) if "eval" in row]


MEMORY = {"parallel": {"checkpointing": "selective"}, "precision": "bf16", "phases__0__samples": 8}
CASES = {
    "sequence": ("sequence", {"model__dropout": 0.1, "micro": 2}),
    "average": ("sequence", {"ema": 0.5, "model__frozen": ["vit"]}),
    "memory": ("sequence", MEMORY),
    "compiled": ("sequence", {**MEMORY, "parallel": {"checkpointing": "selective", "compile": True}}),
    "siglip": ("siglip", {"evals": [{"benchmark": "nano/retrieval", "every": 8, "limit": 8}]}),
}


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] * (case == "compiled")) for case in CASES]
)
def test_evaluations_change_nothing_of_a_run(case, make_trainer, tmp_path, mine, monkeypatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # needs no C++ compiler
    objective, changes = CASES[case]
    evals = changes.get("evals", [mine, {"benchmark": "nano/vqa", "every": 12, "limit": 3}])
    plain = make_recipe(objective, **{key: value for key, value in changes.items() if key != "evals"})
    make_trainer(plain, "plain").train()
    name = evals[0].get("name", evals[0].get("benchmark"))
    trainer = make_trainer(make_recipe(objective, **{**changes, "evals": evals, "keep_best": name}), "evaluated")
    modes = {module: module.training for module in trainer.model.modules()}
    trainer.train()
    assert {module: module.training for module in trainer.model.modules()} == modes
    assert_equal(tensors_of(tmp_path / "evaluated"), tensors_of(tmp_path / "plain"))
    assert [row for row in metrics_of(tmp_path / "evaluated") if "eval" not in row] == metrics_of(
        tmp_path / "plain"
    )
    assert_equal(*(open_model(tmp_path / run / "model").weights() for run in ("evaluated", "plain")))
    assert {row["eval"] for row in evaluations_of(tmp_path / "evaluated")} == {
        spec.get("name", spec.get("benchmark")) for spec in evals
    }


def test_torchs_random_state_stays(make_trainer, mine) -> None:
    trainer = make_trainer(make_recipe(evals=[mine], phases__0__samples=4))
    trainer.train()
    before = torch.get_rng_state()
    trainer._evaluate()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_scores_are_those_of_the_exported_model(ema, make_trainer, tmp_path, mine) -> None:
    trainer = make_trainer(make_recipe(evals=[mine], ema=ema))
    trainer.train()
    rows = evaluations_of(tmp_path / "run")
    assert [(row["samples"], row["eval"], row["n"]) for row in rows] == [(at, "mine", 5) for at in (8, 16, 24)]
    [evaluation] = trainer.evaluations.all
    pali = Pali.from_pretrained(tmp_path / "run", dtype="fp32")
    scores: dict[str, float] = {}
    for evaluator in evaluation.evaluators:
        scores |= evaluator.run(pali.pipeline("pali")).scores.summary
    assert rows[-1]["scores"] == pytest.approx(scores, rel=1e-6)
    assert rows[-1]["metric"] == "cider"
    assert rows[0]["scores"]["loss"] > rows[-1]["scores"]["loss"]


def test_images_are_decoded_as_openpali_eval_decodes_them(tmp_path, tokenizer) -> None:
    """At full size, where training takes an eighth of a JPEG."""
    Image.new("RGB", (608, 608)).save(tmp_path / "large.jpg")
    (tmp_path / "held-out.jsonl").write_text(json.dumps({"images": "large.jpg", "caption": "black"}) + "\n")
    held_out = {"source": str(tmp_path / "held-out.jsonl"), "task": "caption", "every": 8}
    [evaluation] = open_evaluations(make_recipe(evals=[held_out]), tokenizer)
    for each in evaluation.evaluators:
        assert isinstance(each, AnswerEvaluator | LossEvaluator)
        assert each.source[0].images[0].shape == (608, 608, 3)


def test_a_task_has_the_options_of_training(make_trainer) -> None:
    entry = {"source": "nano/scene", "task": "detect", "task_options": {"bins": 16, "max_names": 3}}
    held_out = {"source": "nano/scene", "task": "detect", "every": 24, "limit": 2, "task_options": {"max_names": 2}}
    recipe = make_recipe(
        phases__0__mixture=[entry],
        max_prompt=96,
        max_target=160,
        evals=[held_out, {"benchmark": "nano/detect", "every": 24}],
    )
    ours, benchmark = make_trainer(recipe).evaluations.all
    for evaluator in (*ours.evaluators, *benchmark.evaluators):
        assert isinstance(evaluator, AnswerEvaluator | LossEvaluator)
        assert evaluator.task.bins == 16  # type: ignore[attr-defined]
    assert ours.evaluators[0].task.max_names == 2  # type: ignore[attr-defined]
    assert ours.name == "detect@nano/scene"
    assert benchmark.name == "nano/detect"


# ---- the best checkpoint, early stops, resuming


def test_the_best_checkpoint_is_kept_and_exported(make_trainer, tmp_path, mine, scripted) -> None:
    scripted |= {1: 0.1, 2: 0.7, 3: 0.3, 4: float("nan"), 5: 0.7, 6: 0.6}
    recipe = make_recipe(evals=[{**mine, "every": 4}], keep_best="mine/cider", keep=1, save_minutes=ALWAYS, ema=0.5)
    trainer = make_trainer(recipe)
    kept = {}
    step = trainer.train_step.run

    def spy(*args, **options):
        found = step(*args, **options)
        kept[trainer.step + 1] = {n: value.clone() for n, value in trainer.train_step.average.items()}
        return found

    trainer.train_step.run = spy
    trainer.train()
    assert [step_of(path) for path in checkpoints(tmp_path / "run")] == [2, 6]
    best = open_model(tmp_path / "run" / "best")
    assert best.facts.samples == 8
    weights = best.weights()
    assert all(torch.equal(weights[name], value) for name, value in kept[2].items())
    assert read_state(checkpoints(tmp_path / "run")[-1])["best"] == {
        "score": "mine/cider", "value": 0.7, "samples": 8, "step": 2,
    }  # fmt: skip
    make_trainer(recipe)  # opening the run again deletes nothing
    assert [step_of(path) for path in checkpoints(tmp_path / "run")] == [2, 6]


def test_the_loss_is_better_when_it_is_lower() -> None:
    best = Best("mine/loss")
    values = [2.0, 3.0, 1.0]
    assert [best.notice(v, falls=True, samples=i, step=i) for i, v in enumerate(values)] == [True, False, True]


def test_the_best_is_judged_by_the_evaluation_that_it_names(make_trainer, mine, scripted) -> None:
    scripted |= dict.fromkeys(range(1, 9), 0.5)
    other = {**mine, "name": "mine/hard", "every": 8}
    trainer = make_trainer(make_recipe(evals=[{**mine, "every": 4}, other], keep_best="mine/hard"))
    trainer.train()
    assert trainer.evaluations.best.samples == 8, "of the first of equal values, not of sample 4"


def test_a_killed_run_equals_one_that_was_not(make_trainer, tmp_path, mine, scripted) -> None:
    """The best value and the best checkpoint, too."""
    scripted |= {1: 0.1, 2: 0.7, 3: 0.3, 4: 0.9, 5: 0.8, 6: 0.2}  # what forgets the best takes the fifth
    evals = [{**mine, "every": 4, "limit": 2}]
    recipe = make_recipe(evals=evals, keep_best="mine", keep=1, keep_every=8)
    make_trainer(recipe, "whole").train()
    for killed_in in (2, 4, 5):  # also right after a best
        broken = f"killed in {killed_in}"
        train_and_kill(make_trainer(recipe, broken), killed_in)
        make_trainer(recipe, broken).train()
        assert_same_run(tmp_path / broken, tmp_path / "whole")
        names = [[path.name for path in checkpoints(tmp_path / run)] for run in (broken, "whole")]
        assert names[0] == names[1]
        assert_equal(*(open_model(tmp_path / run / "best").weights() for run in (broken, "whole")))


def test_a_run_killed_before_its_best_is_exported_exports_it(make_trainer, tmp_path, mine, scripted) -> None:
    scripted |= {1: 0.1, 2: 0.7, 3: 0.3, 4: 0.2, 5: 0.1, 6: 0.1}
    recipe = make_recipe(evals=[{**mine, "every": 4}], keep_best="mine")
    trainer = make_trainer(recipe)
    export = trainer._export

    def die(name):
        if trainer.step == 2:
            raise Killed
        return export(name)

    trainer._export = die
    with pytest.raises(Killed):
        trainer.train()
    assert open_model(tmp_path / "run" / "best").facts.samples == 4
    make_trainer(recipe).train()
    assert open_model(tmp_path / "run" / "best").facts.samples == 8


def test_a_run_from_a_model_scores_the_model_first(make_trainer, tmp_path, mine, scripted) -> None:
    """The start can be the best, and is scored once if the run starts anew."""
    scripted |= {0: 0.9, 6: 0.1}
    make_trainer(make_recipe(), "start").train()
    start: dict[str, Any] = {"model__init": {"": str(tmp_path / "start")}, "phases__0__samples": 24}
    make_trainer(make_recipe(**start), "plain").train()
    recipe = make_recipe(**start, evals=[{**mine, "every": 400}], keep_best="mine/cider")
    trainer = make_trainer(recipe)
    train_and_kill(trainer, 2)
    make_trainer(recipe).train()
    before, after = evaluations_of(tmp_path / "run")
    assert [(row["samples"], row["step"]) for row in (before, after)] == [(0, 0), (24, 6)]
    pipeline = Pali.from_pretrained(tmp_path / "start", dtype="fp32").pipeline("pali")
    loss = trainer.evaluations.all[0].evaluators[-1].run(pipeline).scores.summary["loss"]
    assert before["scores"]["loss"] == pytest.approx(loss, rel=1e-6)
    assert after["scores"]["loss"] != before["scores"]["loss"]
    assert_equal(tensors_of(tmp_path / "run"), tensors_of(tmp_path / "plain"))
    assert_equal(*(open_model(tmp_path / folder).weights() for folder in ("run/best", "start/model")))


def test_a_score_that_is_never_a_number_leaves_no_best_model_and_says_so(
    make_trainer, tmp_path, mine, scripted
) -> None:
    scripted.update(dict.fromkeys(range(1, 7), math.nan))
    trainer = make_trainer(make_recipe(evals=[mine], keep_best="mine"))
    trainer.train()
    assert not (tmp_path / "run" / "best").exists()
    assert [*trainer.summary()] == ["no evaluation gave a number for mine: there is no best model"]


# ---- reports and commands


def test_scores_go_to_the_console_the_boards_and_the_curves(
    make_trainer, tmp_path, mine, monkeypatch, capsys
) -> None:
    seen: list[Any] = []
    board = SimpleNamespace(add_scalar=lambda *args: seen.append(args), close=lambda: None)
    monkeypatch.setattr(watch_module, "_tensorboard", lambda *_: board)
    make_trainer(make_recipe(evals=[mine])).train(watch_module.Watch())
    assert [at for name, _, at in seen if name == "eval/mine/loss"] == [8, 16, 24]
    shown = " ".join(capsys.readouterr().out.split())
    assert "mine at sample 8: " in shown
    assert "cider 0.0" in shown
    assert "5 samples in fp32" in shown
    assert {row["precision"] for row in evaluations_of(tmp_path / "run")} == {"fp32"}
    with Image.open(draw_curves(tmp_path / "run")) as curves:
        assert curves.size == (1200, 1600)  # a line of panels more than without evaluations


def test_explain_shows_evaluations(tmp_path, mine, openpali) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        f"""
        name = "mine"
        objective = "sequence"
        batch = 4
        workers = 0
        keep_best = "mine/bleu4"
        model = {{ preset = "pico", tokenizer = "nano-vocabulary" }}
        optimizer = {{ lr = 1e-3 }}
        [[phases]]
        samples = 8
        size = 72
        mixture = [{{ source = "nano/single", task = "caption" }}]
        [[evals]]
        name = "mine"
        source = "{mine["source"]}"
        task = "caption"
        every = 400
        """
    )
    assert load_recipe(recipe, ["scale=0.01", "evals.0.limit=3"]).model_dump()["evals"][0]["every"] == 4
    command = ["explain", recipe, "evals.0.limit=3"]
    shown = openpali(*command, 'model.frozen=["vit"]')
    assert "[[evals]]" in shown
    assert (
        "evaluation mine: 3 samples, every 400 of the run; cider counts; the model with the best bleu4 is kept\n"
        in shown
    )
    assert re.search(r"\nlearns: [\d,]+ parameters \(project [\d,]+, text [\d,]+\)\nfrozen: [\d,]+ .*vit", shown)
    for override, message in (
        ('model.frozen=["vitt"]', r"model\.frozen names 'vitt'"),
        ("phases.0.size=70", r"phases\.0\.size = 70 is not a multiple of the patch size 12"),
        ("optimizer.lr_scale={vitt=0.1}", r"optimizer\.lr_scale names \['vitt'\]: name parts that learn"),
    ):
        assert re.search(message, openpali(*command, override, fails=True))


# ---- mistakes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evals": [{"every": 8}]}, "needs either a benchmark, or a source"),
        ({"evals": [{"every": 8, "benchmark": "nano/vqa", "task": "vqa"}]}, "has its own task and options"),
        ({"evals": [{"every": 0, "benchmark": "nano/vqa"}]}, "evals.0.every = 0 must be greater than 0"),
        ({"evals": [{"benchmark": "nano/vqa"}]}, "evals.0.every is missing"),
        ({"evals": [{"every": 8, "benchmark": "nano/vqa"}] * 2}, "two evaluations are called 'nano/vqa'"),
        ({"evals": [{"every": 8, "benchmark": "nano/vqa"}], "keep_best": "mine/acc"}, "it is one of nano/vqa"),
        ({"keep_best": "mine/acc"}, r"no evaluation in \[\[evals\]\] has that name"),
        ({"evals": [{"every": 8, "benchmark": "nano/vqa", "limits": 3}]}, "nearest: evals.0.limit"),
    ],
)
def test_a_mistake_names_the_key(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        make_recipe(**changes)


def test_evaluations_belong_to_their_objective(make_trainer) -> None:
    for objective, benchmark, more, named in (
        ("classify", "nano/vqa", {}, "no evaluation is for objective = 'classify'"),
        ("siglip", "", {"source": "nano/single"}, "name one, and no source"),
        ("sequence", "", {"source": "nano/single"}, "needs a task"),
        ("find", "nano/vqa", {}, "neither benchmark nor task"),
        ("siglip", "nano/vqa", {}, "nano/vqa asks for answers"),
        ("sequence", "nano/retrieval", {}, "nano/retrieval compares embeddings"),
    ):
        with pytest.raises(ValueError, match=named):
            make_trainer(make_recipe(objective, evals=[{"every": 8, "benchmark": benchmark, **more}]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "nowhere.jsonl"}, "evals.0: .*nowhere.jsonl"),
        ({"task": "captoin"}, "evals.0: unknown task 'captoin'; .*caption"),
        ({"task_options": {"bin": 3}}, "evals.0: task caption has no option 'bin'"),
        (
            {"source": "nano/single"},
            "evals.0: mine: a source that generates samples without end cannot be evaluated whole: set a limit",
        ),
    ],
)
def test_data_is_opened_before_training(changes, message, make_trainer, mine) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        make_trainer(make_recipe(evals=[{**mine, **changes}]))


def test_an_unknown_score_is_named_at_the_first_evaluation(make_trainer, mine) -> None:
    trainer = make_trainer(make_recipe(evals=[mine], keep_best="mine/nothing"))
    with pytest.raises(ValueError, match=r"mine has no score 'nothing', but .*cider.*, loss: name one of them"):
        trainer.train()


def test_a_bad_sample_is_named_with_its_evaluation(make_trainer, tmp_path, mine) -> None:
    trainer = make_trainer(make_recipe(evals=[mine]))
    (tmp_path / "mine" / "3.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"evaluation mine at sample 8: .*3.png"):
        trainer.train()
    assert trainer.model.training


# ---- several ranks


@pytest.fixture(scope="module")
def ran(tiny_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs with and without evaluations, which start from the same model."""
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENPALI_HOME", str(tiny_home))
        tokenizer = open_tokenizer("nano-vocabulary")
        Trainer(make_recipe(**TRAINED), tiny_home / "runs" / "start-of-ranks", ALONE, tokenizer)._export("model")
    return run_jobs(folder, tiny_home, [job.name for job in EVALUATED], 600)


@pytest.mark.timeout(700)
@pytest.mark.parametrize("job", [job for job in EVALUATED if job.recipe.evals], ids=lambda job: job.name)
def test_evaluations_change_nothing_on_any_rank(job, ran) -> None:
    plain = job.name.replace("evaluated", "plain")
    losses = {
        name: [record_of(ran, name, rank)["losses"] for rank in range(job.world)] for name in (job.name, plain)
    }
    assert losses[job.name] == losses[plain]
    assert_equal(*(shares_of(ran / name) for name in (job.name, plain)))
    assert [row for row in metrics_of(ran / job.name) if "eval" not in row] == metrics_of(ran / plain)


@pytest.mark.timeout(700)
@pytest.mark.parametrize("job", [job for job in EVALUATED if job.recipe.evals], ids=lambda job: job.name)
def test_scores_of_ranks_are_those_of_the_exported_model(job, ran, tokenizer) -> None:
    rows = evaluations_of(ran / job.name)
    start = [(0, "vqa", 3), (0, "captions", 2)]
    places = [*start, (8, "captions", 2), (16, "vqa", 3), (16, "captions", 2)]
    assert [(row["samples"], row["eval"], row["n"]) for row in rows] == places
    pipeline = Pali.from_pretrained(ran / job.name, dtype="fp32").pipeline("pali")
    close = 5e-2 if job.recipe.precision == "bf16" else 1e-4
    for row, evaluation in zip(rows[-2:], open_evaluations(job.recipe, tokenizer), strict=True):
        [_, loss] = [evaluator.run(pipeline) for evaluator in evaluation.evaluators]
        assert row["scores"]["loss"] == pytest.approx(loss.scores.summary["loss"], rel=close)
    assert open_model(ran / job.name / "best").facts.samples in (8, 16)


@pytest.mark.timeout(700)
def test_no_rank_holds_the_whole_of_a_sharded_model(ran) -> None:
    for job in (job for job in EVALUATED if job.recipe.evals and job.recipe.parallel.shard != "none"):
        for rank in range(job.world):
            held = record_of(ran, job.name, rank)["held"]
            assert len(held) > 3
            assert max(held) < 0.6  # each holds a half


@pytest.mark.parametrize("objective", ["find", "elements", "read"])
def test_of_pages_the_averaged_weights_are_scored_and_exported(objective, make_trainer, tmp_path) -> None:
    evals = [{"source": "pages/tiny", "every": 24, "limit": 2}]
    trainer = make_trainer(make_recipe(objective, evals=evals, ema=0.5), "run")
    trainer.train()
    exported = open_model(tmp_path / "run" / "model").weights()
    average = trainer.train_step.average
    assert average.keys() == trainer.train_step.learning.keys()
    assert all(torch.equal(exported[name], value) for name, value in average.items())
    assert any(not torch.equal(value, trainer.train_step.learning[name]) for name, value in average.items())
    [evaluation] = trainer.evaluations.all
    asked = open_model(tmp_path / "run" / "model").model()
    again = {
        name: value
        for each in evaluation.evaluators
        for name, value in each.run(asked, ALONE).scores.summary.items()
    }
    [row] = evaluations_of(tmp_path / "run")
    assert row["scores"] == pytest.approx(again)


@pytest.mark.parametrize(("objective", "score"), [("find", "f1@0.5"), ("elements", "f1@0.5"), ("read", "cer")])
def test_lines_of_held_out_pages_are_found_and_read(objective, score, make_trainer, tmp_path) -> None:
    evals = [{"source": "pages/tiny", "every": 12, "limit": 2}]
    make_trainer(make_recipe(objective, evals=evals, keep_best="pages/tiny"), "run").train()
    rows = evaluations_of(tmp_path / "run")
    assert [row["samples"] for row in rows] == [12, 24]
    assert all(row["n"] == 2 and row["metric"] == score and score in row["scores"] for row in rows)
    assert (tmp_path / "run" / "best" / "config.json").is_file()
    make_trainer(make_recipe(objective), "unwatched").train()
    watched, unwatched = (tensors_of(tmp_path / name) for name in ("run", "unwatched"))
    assert all(torch.equal(watched[name], unwatched[name]) for name in unwatched)
