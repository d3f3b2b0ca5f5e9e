"""The table of a study from scores, without models: what is missing, how many seeds there are, what is too low."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from openpali.study.plot import draw_table
from openpali.study.runs import Job
from openpali.study.spec import Study, TestSpec
from openpali.study.table import TOO_LOW, as_json, as_markdown, missing_of, rows_of

COLUMNS = {"questions": "nano/vqa", "boxes": "nano/detect"}


@pytest.fixture
def study() -> Study:
    return Study.model_validate(
        {
            "name": "tiny",
            "seeds": [1, 2, 3],
            "baseline": "classify",
            "compared": "siglip",
            "recipes": {stage: f"{stage}.toml" for stage in ("classify", "siglip", "pali")},
            "sizes": {"pico": []},
            "arms": {
                "classify": {"stages": ["classify", "pali"]},
                "siglip": {"stages": ["siglip", "pali"]},
                "siglip, then classify": {"stages": ["siglip", "classify", "pali"], "seeds": [1]},
            },
            "curve": {"samples": [4], "seeds": [1]},
            "columns": [
                {"name": "questions", "benchmark": "nano/vqa", "paper": [76.7, 0.8], "paper_name": "VQAv2"},
                {"name": "boxes", "benchmark": "nano/detect"},
            ],
        }
    )


@dataclass(frozen=True)
class Scored:
    """What a table asks of the scoring of a job."""

    job: Job
    test: TestSpec
    values: Sequence[float] = field(default=())

    def done(self) -> bool:
        return bool(self.values)

    def result(self) -> Mapping[str, Any]:
        if not self.values:
            return {}
        card = {"metric": "acc", "benchmark": self.test.benchmark}
        return {"card": card, "values": {"acc": self.values}, "prompts": [], "asked": []}


def scored(arm: str, seed: int, questions: Sequence[float], boxes: Sequence[float], samples: int | None = None):
    job = Job(arm, "pico", seed, samples, (f"tiny/pico-{seed}/{arm}",))
    tests = [TestSpec(benchmark=name) for name in COLUMNS.values()]
    return [Scored(job, test, values) for test, values in zip(tests, (questions, boxes), strict=True)]


LOW, HALF, MOST = [0.0, 0.0, 0.0, 0.05], [1, 0, 1, 0], [1, 1, 1, 0.9]


def test_seeds_and_what_is_missing_are_those_that_are_scored(study: Study, tmp_path: Path) -> None:
    scorings = [*scored("classify", 1, HALF, LOW), *scored("siglip", 1, MOST, LOW)]
    scorings += [*scored("classify", 2, HALF, LOW), *scored("siglip", 2, MOST, ())]
    scorings += [*scored("classify", 3, (), ()), *scored("siglip, then classify", 1, MOST, LOW)]
    scorings += [*scored("classify", 1, HALF, LOW, 4), *scored("siglip", 1, HALF, LOW, 4)]
    rows, missing = rows_of(study, scorings), missing_of(scorings)
    printed = as_markdown(study, rows, missing)
    assert "- siglip, pico, seed 2: 1 test\n- classify, pico, seed 3: 2 tests\n" in printed
    assert "Scored seeds, of 1, 2, 3: classify: 1, 2; siglip: 1, 2; siglip, then classify: 1." in printed
    assert "| column | size | 4, 1 seed | all, 1 to 2 seeds |" in printed
    assert "(1 of 3 seeds)" in printed
    assert [job["tests"] for job in as_json(study, rows, missing)["missing"]] == [1, 2]
    assert "Not complete" not in as_markdown(study, rows, {})
    svg = next(file for file in draw_table(study, rows, tmp_path) if file.suffix == ".svg").read_text()
    assert "<!-- pico, 1 to 2 seeds -->" in svg
    assert "<!-- boxes: too low to tell -->" in svg
    assert "<!-- questions -->" in svg


def test_an_arm_that_is_not_scored_yet_has_no_seed(study: Study) -> None:
    printed = as_markdown(study, rows_of(study, scored("classify", 1, HALF, LOW)), {})
    assert "Scored seeds, of 1, 2, 3: classify: 1; siglip: none." in printed


@pytest.mark.parametrize(
    ("ours", "theirs", "sign"),
    [(LOW, [0, 0, 0, 0], TOO_LOW), (LOW, HALF, "no"), (HALF, LOW, "yes"), (HALF, HALF, "open")],
)
def test_two_scores_near_zero_have_no_sign(
    study: Study, ours: Sequence[float], theirs: Sequence[float], sign: str
) -> None:
    many = 25  # repetitions, for a small interval
    found = [*scored("classify", 1, [*theirs] * many, LOW), *scored("siglip", 1, [*ours] * many, MOST)]
    questions, boxes = rows_of(study, found)
    assert questions.sign(study) == sign
    assert boxes.sign(study) == ""  # the paper has no such column
