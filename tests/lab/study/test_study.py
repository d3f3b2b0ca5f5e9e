"""A tiny study through all the real code: killed and resumed, shared among processes, drawn and printed."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
import torch

import openpali.train.trainer as trainer_module
from openpali.cli.main import main
from openpali.eval.predictions import PredictionsFile
from openpali.home import home
from openpali.locks import lock
from openpali.train.load import read_record
from openpali.train.step import TrainStep
from openpali.weights.find import find_model
from openpali.weights.format import open_model
from openpali_lab.study.runs import plan_study
from openpali_lab.study.spec import load_study
from openpali_lab.study.work import Scoring, _claim, units_of

RECIPE = """
batch = 4
workers = 0
precision = "fp32"
save_minutes = 1e-9     # a checkpoint after each step
model = {{ preset = "pico", tokenizer = "nano-vocabulary"{model} }}
optimizer = {{ lr = 1e-3, schedule = "constant" }}
name = "{name}"
objective = "{objective}"
{more}
[[phases]]
samples = {samples}
size = 72
mixture = [{{ source = "nano/single", task = "{task}" }}]
"""
STUDY = """
name = "tiny"
seeds = [1, 2]
baseline = "classify"
compared = "siglip"

[recipes]
text = "text.toml"
classify = "classify.toml"
siglip = "siglip.toml"
pali = "pali.toml"

[sizes]
pico = ["model.preset=pico"]

[arms.classify]
stages = ["classify", "pali"]

[arms.siglip]
stages = ["siglip", "pali"]

[curve]
samples = [4]
seeds = [1]

[[columns]]
name = "English"
benchmark = "nano/caption"
prompt = " in en "
limit = 8
paper = [139.9, 0.4]
paper_name = "COCO"

[[columns]]
name = "other languages"
benchmark = "nano/caption"
prompt = ' in (?!en )'
limit = 8

[[columns]]
name = "questions"
source = "nano/scene"
task = "object_vqa"
options = { split = "heldout" }
limit = 6
"""


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study, beside its recipes."""
    folder = tmp_path_factory.mktemp("study")

    def write(name: str, objective: str, task: str, samples: int, model: str = "", more: str = "") -> None:
        text = RECIPE.format(name=name, objective=objective, task=task, samples=samples, model=model, more=more)
        (folder / f"{name}.toml").write_text(text)

    write("text", "sequence", "denoise", 4, ', frozen = ["vit", "project"]')
    write("classify", "classify", "classify", 8)
    write("siglip", "siglip", "contrastive", 8)
    start = ', init = { text = "text" }, frozen = ["vit"]'
    write("pali", "sequence", "caption", 8, start, "max_target = 96")
    (folder / "study.toml").write_text(STUDY)
    return folder / "study.toml"


Call = Run = Callable[..., str]


@pytest.fixture(scope="module")
def call(file: Path, world_with_vocabulary: Path, tmp_path_factory: pytest.TempPathFactory) -> Call:
    """Run `openpali study` on the study, in a home by its name."""

    def call(patch: pytest.MonkeyPatch, name: str, *arguments: object) -> str:
        place = tmp_path_factory.getbasetemp() / f"home-{name}"
        if not place.is_dir():
            place.mkdir()
            (place / "data").symlink_to(world_with_vocabulary / "data")
        patch.setenv("OPENPALI_HOME", str(place))
        patch.setattr(sys, "argv", ["openpali", "study", str(file), *map(str, arguments)])
        threads, printed = torch.get_num_threads(), StringIO()
        torch.set_num_threads(1)
        try:
            with pytest.raises(SystemExit) as end, redirect_stdout(printed):
                main()
        finally:
            torch.set_num_threads(threads)
        assert not end.value.code, end.value.code
        return printed.getvalue()

    return call


@pytest.fixture(scope="module")
def whole(call: Call) -> str:
    """What the study prints that runs to its end, in the home "whole"."""
    with pytest.MonkeyPatch.context() as patch:
        return call(patch, "whole")


@pytest.fixture
def run(call: Call, whole: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run it again, there or in another home."""
    return partial(call, monkeypatch)


def dies(monkeypatch: pytest.MonkeyPatch, cls: type, method: str, time: int) -> None:
    """Let the n-th call of a method, from now on, die instead."""
    original, calls = getattr(cls, method), []

    def die(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == time:
            raise Killed
        return original(*arguments)

    monkeypatch.setattr(cls, method, die)


def table(name: str = "tiny") -> dict[str, object]:
    return json.loads((home() / "runs" / name / "table.json").read_text())


def results() -> dict[str, object]:
    """What is measured of the models of jobs 1 and 5, and weights of them."""
    found: dict[str, object] = {}
    for model in ("siglip+pali", "siglip@4+pali"):
        folder = home() / "runs" / "tiny" / "pico-1" / model
        found[model] = open_model(folder / "model").weights()["text.head.weight"].tolist()
        for file in sorted((folder / "scores").glob("*.json")):
            result = json.loads(file.read_text())
            found[f"{model}/{file.name}"] = [result[key] for key in ("test", "prompts", "asked", "values")]
    return found


def test_a_killed_study_goes_on_to_the_same_scores(run: Run, whole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run("whole", "--report")
    expected, expected_results = table(), results()
    assert len(expected_results) == 6
    for cls, method, time in ((TrainStep, "run", 3), (PredictionsFile, "write", 1)):
        with monkeypatch.context() as patch:
            dies(patch, cls, method, time)
            with pytest.raises(Killed):
                run("killed", "--job", 1)
    run("killed", "--job", 1, "--job", 5)
    assert results() == expected_results
    missing = [(job["arm"], job["seed"], job["samples"], job["tests"]) for job in table()["missing"]]
    assert missing == [
        ("classify", 1, None, 2),
        ("classify", 2, None, 2),
        ("siglip", 2, None, 2),
        ("classify", 1, 4, 2),
    ]
    run("whole", "--report")
    names = {path.parent.name for path in (home() / "runs" / "tiny" / "pico-1").glob("*/recipe.json")}
    pretraining = {"classify", "siglip"}
    assert names == pretraining | {f"{n}+pali" for n in pretraining} | {f"{n}@4+pali" for n in pretraining}
    assert expected["missing"] == []
    assert [(row["column"], row["samples"], row["n"]) for row in expected["rows"]] == [
        ("English", 4, 1),
        ("other languages", 4, 7),
        ("questions", 4, 6),
        ("English", None, 1),
        ("other languages", None, 7),
        ("questions", None, 6),
    ]
    assert "| English | 1 |" in whole
    assert "COCO | 139.9 | +0.4 |" in whole
    for ending in ("md", "svg", "png"):
        assert (home() / "runs" / "tiny" / f"table.{ending}").stat().st_size


def test_models_start_from_their_encoders_and_from_what_is_shared(run: Run) -> None:
    run("whole", "--report")
    text = open_model(find_model("tiny/text")).weights()
    for arm in ("classify", "siglip"):
        for end, start in ((f"{arm}+pali", arm), (f"{arm}@4+pali", f"{arm}/models/step-00000001")):
            folder = find_model(f"tiny/pico-1/{end}")
            model, encoder = open_model(folder).weights(), open_model(find_model(f"tiny/pico-1/{start}")).weights()
            vit = [key for key in model if key.startswith("vit.")]
            assert vit
            assert all(torch.equal(model[key], encoder[key]) for key in vit)  # frozen
            recipe = read_record((folder.parent / "recipe.json").read_text())
            assert recipe.model.init == {"text": "tiny/text", "vit": f"tiny/pico-1/{start}"}
    assert not all(torch.equal(text[key], model[key]) for key in text if key.startswith("text."))


def test_jobs_are_listed_and_mistakes_are_named(run: Run) -> None:
    run("whole", "--report")
    listed = run("whole", "--list").splitlines()
    assert listed[1] == "1: siglip, pico, seed 1: 2 of 2 scored"
    assert listed[-1] == "5: siglip, pico, seed 1, after 4 samples: 2 of 2 scored"
    run("whole", "--job", 1)  # all is done
    for arguments, message in (
        (["--job", "6"], "there is no job 6: tiny has jobs 0 to 5"),
        (["baseline=clasify"], "baseline: there is no 'clasify'; did you mean 'classify'"),
        (["columns.0.scor=a"], r"unknown key columns.0.scor; did you mean 'score'"),
        (["columns.0.score=bleu"], "English: samples of nano/caption have no score 'bleu', but exact/mean"),
        (["columns.0.prompt=zz"], "column English: 'zz' is found in no prompt of tiny/pico-1/classify"),
        (["curve.samples=[6]"], "curve.samples: tiny/pico-1/classify has no checkpoint after 6 samples, since it"),
        (
            ["optimizer.lr=2e-3"],
            r"another optimizer.lr \(.*, not 0.002\): delete it, or give the study another name",
        ),
    ):
        with pytest.raises(AssertionError, match=message):
            run("whole", *arguments)


def test_finished_jobs_need_no_models(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, end = tmp_path / "kept", "pico-1/siglip+pali"
    run("whole", "--report", "--results", kept)
    expected = (kept / "table.json").read_text()
    assert json.loads(expected)["missing"] == []
    assert (kept / "text" / "recipe.json").is_file()
    captions, questions = json.loads((kept / end / "scores.json").read_text()).values()
    assert [len(each["asked"]) for each in (captions, questions)] == [8, 0]  # only where a column chooses by prompt
    assert list(captions["values"]) == [captions["card"]["metric"]]
    with monkeypatch.context() as patch:
        patch.setattr(trainer_module.Trainer, "train", lambda *_: pytest.fail("a finished job is trained again"))
        run("taken-up", "--results", kept)
    assert (kept / "table.json").read_text() == expected
    assert not [*(home() / "runs").glob("**/model")]
    run("taken-up", "--out", tmp_path / "again")  # the folder is not needed any more
    assert (tmp_path / "again" / "table.json").read_text() == expected
    for name, results, folder in (
        ("other-recipe", ["--results", kept], "kept/pico-1/classify"),
        ("taken-up", [], r"home-taken-up/runs/tiny/pico-1/classify\+pali"),
    ):
        with pytest.raises(AssertionError, match=f"{folder} holds a run with another phases"):
            run(name, *results, "phases.0.samples=16")
    (kept / end / "scores.json").unlink()
    listed = run("in-part", "--list", "--results", kept).splitlines()
    assert [line.partition(": ")[2] for line in listed if "0 of 2" in line] == [
        "siglip, pico, seed 1: 0 of 2 scored, 3 runs to train"
    ]
    encoder = home() / "runs" / "tiny" / "pico-1" / "siglip" / "recipe.json"
    encoder.write_text(encoder.read_text().replace('"seed": 1', '"seed": 9'))
    with pytest.raises(AssertionError, match="siglip holds a run with another seed"):
        run("in-part", "--list")
    encoder.unlink()
    assert "1: siglip, pico, seed 1: 0 of 2" in run("in-part", "--list")
    (home() / "runs" / "tiny" / "pico-1" / "siglip@4+pali" / "recipe.json").unlink()
    with pytest.raises(AssertionError, match=r"siglip@4\+pali.*recipe.json"):
        run("in-part", "--list")


def test_what_is_asked_is_looked_for_before_training(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_module.Trainer, "train", lambda *_: pytest.fail("something is trained"))
    with pytest.raises(AssertionError, match=r"missing\.jsonl"):
        run("fresh", "columns.2.source=missing.jsonl", "columns.2.options={}")


def test_tests_of_a_model_have_files_of_their_own(file: Path) -> None:
    study = load_study(file, ["columns.1.limit=4"])
    plan = plan_study(study, file.parent)
    scorings = [unit for unit in units_of(study, plan, plan.jobs[:1], home()) if isinstance(unit, Scoring)]
    assert len({unit.file for unit in scorings}) == len(scorings) == 3


def test_a_unit_that_another_process_does_is_left_to_it(run: Run, file: Path) -> None:
    run("whole", "--report")
    study = load_study(file, ["name=other"])
    plan = plan_study(study, file.parent)
    units = dict(enumerate(units_of(study, plan, plan.jobs, home())))
    assert [units[number].name for number in (0, 1)] == ["other/pico-1/classify/train", "other/text/train"]
    ready, done = os.pipe()
    if not (child := os.fork()):
        folder = home() / "locks" / units[0].name
        folder.mkdir(parents=True)
        held = lock(folder / ".lock", "")
        os.write(done, b"x")
        signal.pause()
    try:
        os.read(ready, 1)
        number, held = _claim(units)
        assert number == 1
        held.close()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    number, held = _claim(units)
    assert number == 0
    held.close()
