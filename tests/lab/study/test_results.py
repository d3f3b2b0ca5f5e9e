"""The committed results of Table 1, without models: taken up, refused, kept, and damaged."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from openpali.distributed import ALONE
from openpali.train.objectives.sequence import SequenceRecipe
from openpali.train.recipe import EvalSpec
from openpali.train.run_folder import RunFolder
from openpali_lab.study.results import Results
from openpali_lab.study.runs import Plan, plan_study
from openpali_lab.study.spec import ColumnSpec, Study, load_study
from openpali_lab.study.table import rows_of
from openpali_lab.study.work import Scoring, units_of

ROOT = Path(__file__).parents[3]
RECIPES, COMMITTED = ROOT / "recipes" / "study", ROOT / "docs" / "results" / "study" / "table1"
SMALL = ["seeds=[1]", 'sizes={nano=["model.preset=nano"]}']
CLASSIFIER = "nano-1/classify+pali"


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The classifier's results in a folder of their own, beside a home without runs."""
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path / "home"))
    for name in ("masks", "nano-1/classify", CLASSIFIER):
        shutil.copytree(COMMITTED / name, tmp_path / "kept" / name)
    return tmp_path / "kept"


def opened(kept: Path, recipe: str = "", **changes: Any) -> Results:
    """The results for the study, with changed recipes or a changed study."""
    study = load_study(RECIPES / "table1.toml", SMALL).model_copy(update=changes)
    return Results(kept, study, plan_study(study, RECIPES, recipe.split()), kept)


def scorings_of(results: Results, study: Study, plan: Plan) -> list[Scoring]:
    units = units_of(study, plan, plan.jobs[:1], results.data)
    return [unit for unit in units if isinstance(unit, Scoring)]


def test_results_that_are_learned_alike_are_taken_up(kept: Path) -> None:
    results = opened(kept, "workers=3 save_minutes=9 keep_every=640 max_bad=7")
    results.take_up()
    scorings = scorings_of(results, results.study, results.plan)
    assert len(rows_of(results.study, scorings)) == 15
    assert all(scoring.done() for scoring in scorings)


@pytest.mark.parametrize("key", ["optimizer.lr=1e-4", "optimizer.warmup=64", "precision=fp32"])
def test_results_of_another_recipe_are_refused(kept: Path, key: str) -> None:
    name = key.partition("=")[0]
    message = rf"holds a run with another {name} \(.*, not .*\): delete it, or name another folder with --results"
    with pytest.raises(ValueError, match=message):
        opened(kept, key).take_up()


def test_evaluations_do_not_matter(kept: Path) -> None:
    recipe = opened(kept).plan.runs[f"table1/{CLASSIFIER}"].recipe
    assert isinstance(recipe, SequenceRecipe)
    spec = EvalSpec(benchmark="nano/vqa", every=64)
    other = recipe.model_copy(update={"evals": [spec], "keep_best": "nano/vqa"})
    assert other.evals != recipe.evals
    run = RunFolder(kept / CLASSIFIER)
    run.check_same(other, "")


def test_a_run_of_another_recipe_is_not_continued(kept: Path) -> None:
    opened(kept).take_up()
    results = opened(kept, "optimizer.lr=1e-4")
    run = units_of(results.study, results.plan, results.plan.jobs[:1], kept)[0]
    with pytest.raises(ValueError, match=r"another optimizer\.lr \(.*\): delete it, or give the study"):
        run.do(ALONE)


def test_a_point_of_the_curve_needs_its_checkpoint(kept: Path) -> None:
    results = opened(kept)
    point = next(job for job in results.plan.jobs if job.samples == 25_600)
    run = units_of(results.study, results.plan, [point], kept)[-13]
    assert run.name == "table1/nano-1/classify@25600+pali/train"
    with pytest.raises(
        FileNotFoundError, match="classify has no checkpoint after 25,600 samples: delete the folder"
    ):
        run.do(ALONE)


def test_what_other_columns_need_stays(kept: Path) -> None:
    results = opened(kept)
    results.take_up()
    whole = json.loads((kept / CLASSIFIER / "scores.json").read_text())
    columns = {column.name: column for column in results.study.columns}
    boxes, captions = columns["detection"], columns["captions, English"]
    [scored] = [each for each in scorings_of(results, results.study, results.plan) if each.test == boxes.test]
    full = scored.result()
    full["card"]["data"]["root"] = "/home/someone/data"  # another machine's, and so not kept
    scored.write(full | {"values": full["values"] | {"f1": full["values"]["iou"]}})
    fewer = [boxes.model_copy(update={"score": "f1"}), captions.model_copy(update={"prompt": ""})]
    opened(kept, columns=fewer).keep(results.plan.jobs[0])
    now = json.loads((kept / CLASSIFIER / "scores.json").read_text())
    assert now.pop("nano-detect")["values"].keys() == {"iou", "f1"}
    del whole["nano-detect"]
    assert now == whole
    before = (kept / CLASSIFIER / "scores.json").read_bytes()
    with pytest.raises(
        ValueError, match="column detection: samples of nano/detect have no score 'ap', but iou, f1"
    ):
        opened(kept, columns=[boxes.model_copy(update={"score": "ap"})]).keep(results.plan.jobs[0])
    assert (kept / CLASSIFIER / "scores.json").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "message"), [('{"test": "', "no scores that can be read"), ("{}", "no test: delete it, and the model")]
)
def test_damaged_scores_are_named(kept: Path, text: str, message: str) -> None:
    results = opened(kept)
    results.take_up()
    scored = scorings_of(results, results.study, results.plan)[0]
    scored.file.write_text(text)
    with pytest.raises(ValueError, match=f"{re.escape(str(scored.file))} has {message}"):
        scored.done()


def test_a_column_may_be_of_the_image_encoder(kept: Path) -> None:
    retrieved = ColumnSpec(name="retrieved", benchmark="nano/retrieval", encoder=True)
    results = opened(kept, columns=[retrieved, ColumnSpec(name="counting", benchmark="nano/vqa")])
    encoder, answers = scorings_of(results, results.study, results.plan)
    assert (encoder.model, answers.model) == (results.plan.jobs[0].runs[0], results.plan.jobs[0].model)
    assert [need.run.name for need in encoder.needs] == [encoder.model]
    assert encoder.file.parts[-3:] == ("classify", "scores", "nano-retrieval.json")


def test_a_benchmark_may_be_asked_of_both_the_encoder_and_the_last_stage(kept: Path) -> None:
    both = [ColumnSpec(name=str(encoder), benchmark="nano/vqa", encoder=encoder) for encoder in (True, False)]
    results = opened(kept, columns=both)
    file = kept / CLASSIFIER / "scores.json"
    [of_last] = [
        result for result in json.loads(file.read_text()).values() if result["test"]["benchmark"] == "nano/vqa"
    ]
    of_encoder = of_last | {"test": of_last["test"] | {"encoder": True}}
    file.write_text(json.dumps({"nano-vqa": of_encoder}))  # as once written
    results.take_up()
    encoder, last = scorings_of(results, results.study, results.plan)
    assert (encoder.done(), last.done()) == (True, False)
    last.write(of_last)
    results.keep(results.plan.jobs[0])
    assert json.loads(file.read_text()).keys() == {"nano-vqa", "nano-vqa-encoder"}
    before = file.read_bytes()
    results.keep(results.plan.jobs[0])
    assert file.read_bytes() == before
