"""A tiny study through all the real code: killed and resumed, drawn and printed."""

from __future__ import annotations

import json
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
from openpali.train.load import read_record
from openpali.train.step import TrainStep
from openpali.weights.find import find_model
from openpali.weights.format import open_model
from openpali_lab.study.runs import plan_study
from openpali_lab.study.spec import load_study
from openpali_lab.study.work import scorings_of

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
    """What is measured of the model of job 1, and weights of it."""
    folder = home() / "runs" / "tiny" / "pico-1" / "siglip+pali"
    found: dict[str, object] = {"head": open_model(folder / "model").weights()["text.head.weight"].tolist()}
    for file in sorted((folder / "scores").glob("*.json")):
        result = json.loads(file.read_text())
        found[file.name] = [result[key] for key in ("test", "prompts", "asked", "values")]
    return found


def test_a_killed_study_goes_on_to_the_same_scores(run: Run, whole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run("whole", "--report")
    expected, expected_results = table(), results()
    assert len(expected_results) == 3
    for cls, method, time in ((TrainStep, "run", 3), (PredictionsFile, "write", 1)):
        with monkeypatch.context() as patch:
            dies(patch, cls, method, time)
            with pytest.raises(Killed):
                run("killed", "--job", 1)
    run("killed", "--job", 1)
    assert results() == expected_results
    missing = [(job["arm"], job["seed"], job["tests"]) for job in table()["missing"]]
    assert missing == [("classify", 1, 2), ("classify", 2, 2), ("siglip", 2, 2)]
    run("whole", "--report")
    names = {path.parent.name for path in (home() / "runs" / "tiny" / "pico-1").glob("*/recipe.json")}
    assert names == {"classify", "siglip", "classify+pali", "siglip+pali"}
    assert expected["missing"] == []
    assert [(row["column"], row["n"]) for row in expected["rows"]] == [
        ("English", 1),
        ("other languages", 7),
        ("questions", 6),
    ]
    assert "| English | 1 |" in whole
    assert "COCO | 139.9 | +0.4 |" in whole
    assert (home() / "runs" / "tiny" / "table.png").stat().st_size


def test_models_start_from_their_encoders_and_from_what_is_shared(run: Run) -> None:
    run("whole", "--report")
    text = open_model(find_model("tiny/text")).weights()
    for arm in ("classify", "siglip"):
        folder = find_model(f"tiny/pico-1/{arm}+pali")
        model, encoder = open_model(folder).weights(), open_model(find_model(f"tiny/pico-1/{arm}")).weights()
        vit = [key for key in model if key.startswith("vit.")]
        assert vit
        assert all(torch.equal(model[key], encoder[key]) for key in vit)  # frozen
        recipe = read_record((folder.parent / "recipe.json").read_text())
        assert recipe.model.init == {"text": "tiny/text", "vit": f"tiny/pico-1/{arm}"}
    assert not all(torch.equal(text[key], model[key]) for key in text if key.startswith("text."))


def test_jobs_are_listed_and_mistakes_are_named(run: Run) -> None:
    run("whole", "--report")
    listed = run("whole", "--list").splitlines()
    assert listed[1] == "1: siglip, pico, seed 1: 3 of 3 runs trained, 2 of 2 tests scored"
    assert len(listed) == 4
    run("whole", "--job", 1)  # all is done
    for arguments, message in (
        (["--job", "4"], "there is no job 4: tiny has jobs 0 to 3"),
        (["baseline=clasify"], "baseline: there is no 'clasify'; did you mean 'classify'"),
        (["columns.0.scor=a"], r"unknown key columns.0.scor; did you mean 'score'"),
        (["columns.0.score=bleu"], "English: samples of nano/caption have no score 'bleu', but exact/mean"),
        (["columns.0.prompt=zz"], "column English: 'zz' is found in no prompt of tiny/pico-1/classify"),
        (
            ["optimizer.lr=2e-3"],
            r"another optimizer.lr \(.*, not 0.002\): delete it, or give the study another name",
        ),
    ):
        with pytest.raises(AssertionError, match=message):
            run("whole", *arguments)


def test_scored_jobs_need_no_models(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("whole", "--report")
    folder = home() / "runs" / "tiny" / "pico-1" / "siglip+pali"
    (folder / "model").rename(folder / "away")
    monkeypatch.setattr(trainer_module.Trainer, "train", lambda *_: pytest.fail("a finished job is trained again"))
    run("whole")
    (folder / "away").rename(folder / "model")
    scores = folder / "scores" / "nano-caption-first-8.json"
    kept = scores.read_text()
    for damaged in ('{"test": "', "{}"):
        scores.write_text(damaged)
        with pytest.raises(AssertionError, match="no scores that can be read"):
            run("whole", "--list")
    scores.write_text(kept)


def test_what_is_asked_is_looked_for_before_training(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_module.Trainer, "train", lambda *_: pytest.fail("something is trained"))
    with pytest.raises(AssertionError, match=r"missing\.jsonl"):
        run("fresh", "columns.2.source=missing.jsonl", "columns.2.options={}")


def test_tests_of_a_model_have_files_of_their_own(file: Path) -> None:
    study = load_study(file, ["columns.1.limit=4", "columns.2.encoder=true"])
    plan = plan_study(study, file.parent)
    scorings = scorings_of(study, plan.jobs[:1])
    assert len({scoring.file for scoring in scorings}) == len(scorings) == 3
    assert [scoring.model for scoring in scorings] == [*[plan.jobs[0].model] * 2, plan.jobs[0].runs[0]]
