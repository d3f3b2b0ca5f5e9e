"""The table of a study from scores, without models: what is missing, how many seeds there are, what is too low."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes

from openpali_lab.study.plot import draw_table
from openpali_lab.study.runs import Job
from openpali_lab.study.spec import Study, TestSpec
from openpali_lab.study.table import ONE_SEED, TOO_LOW, as_json, as_markdown, missing_of, rows_of

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
    data: str = "the same"

    def result(self) -> Mapping[str, Any]:
        if not self.values:
            return {}
        card = {"metric": "acc", "benchmark": self.test.benchmark, "data": {"hash": self.data}}
        return {"card": card, "values": {"acc": self.values}, "prompts": [], "asked": []}


def scored(
    arm: str,
    seed: int,
    questions: Sequence[float],
    boxes: Sequence[float],
) -> list[Scored]:
    job = Job(arm, "pico", seed, (f"tiny/pico-{seed}/{arm}",))
    tests = [TestSpec(benchmark=name) for name in COLUMNS.values()]
    return [Scored(job, test, values) for test, values in zip(tests, (questions, boxes), strict=True)]


LOW, HALF, MOST = [0.0, 0.0, 0.0, 0.05], [1, 0, 1, 0], [1, 1, 1, 0.9]
SLIGHTLY_MORE = [1, 0.2, 0.82, 0]  # than half, within its interval


def test_seeds_and_what_is_missing_are_those_that_are_scored(study: Study) -> None:
    scorings = [*scored("classify", 1, HALF, LOW), *scored("siglip", 1, MOST, LOW)]
    scorings += [*scored("classify", 2, HALF, LOW), *scored("siglip", 2, MOST, ())]
    scorings += [*scored("classify", 3, (), ()), *scored("siglip, then classify", 1, MOST, LOW)]
    rows, missing = rows_of(study, scorings), missing_of(scorings)
    printed = as_markdown(study, rows, missing)
    assert "- siglip, pico, seed 2: 1 test\n- classify, pico, seed 3: 2 tests\n" in printed
    assert "Scored seeds, of 1, 2, 3: classify: 1, 2; siglip: 1, 2; siglip, then classify: 1." in printed
    assert "(1 of 3 seeds)" in printed
    assert [job["tests"] for job in as_json(study, rows, missing)["missing"]] == [1, 2]
    assert "Not complete" not in as_markdown(study, rows, {})


def test_an_arm_that_is_not_scored_yet_has_no_seed(study: Study) -> None:
    printed = as_markdown(study, rows_of(study, scored("classify", 1, HALF, LOW)), {})
    assert "Scored seeds, of 1, 2, 3: classify: 1; siglip: none." in printed


@pytest.mark.parametrize(
    ("ours", "theirs", "paper", "sign"),
    [
        (LOW, [0, 0, 0, 0], 0.8, TOO_LOW),
        (LOW, HALF, 0.8, "no"),
        (HALF, LOW, 0.8, "yes"),
        (HALF, LOW, -0.8, "no"),
        (LOW, HALF, -0.8, "yes"),
        (HALF, HALF, 0.8, "open"),
        (SLIGHTLY_MORE, HALF, 0.8, "open"),
        (SLIGHTLY_MORE, HALF, -0.8, "open"),
        ([1], [0], 0.8, "open"),  # an interval without width
    ],
)
def test_a_sign_needs_scores_and_an_interval_without_zero(
    study: Study, ours: Sequence[float], theirs: Sequence[float], paper: float, sign: str
) -> None:
    many = 25 if len(ours) == 4 else 1  # repetitions, for a small interval
    column = study.columns[0].model_copy(update={"paper": [76.7, paper]})
    study = study.model_copy(update={"columns": [column, study.columns[1]]})
    found = [each for seed in (1, 2) for each in scored("classify", seed, [*theirs] * many, LOW)]
    found += [each for seed in (1, 2) for each in scored("siglip", seed, [*ours] * many, MOST)]
    questions, boxes = rows_of(study, found)
    assert questions.sign(study) == sign
    assert boxes.sign(study) == ""  # the paper has no such column


def test_a_sign_is_open_where_one_of_many_columns_may_show_it_by_chance(study: Study) -> None:
    bit_more = [1, 0.35, 1, 0]
    found = [each for seed in (1, 2) for each in scored("classify", seed, HALF * 20, LOW * 20)]
    found += [each for seed in (1, 2) for each in scored("siglip", seed, bit_more * 20, LOW * 20)]
    alone = rows_of(study.model_copy(update={"columns": study.columns[:1]}), found)
    [difference] = [row.differences["siglip"] for row in alone]
    assert alone[0].p == difference.p < 0.05
    assert [row.sign(study) for row in alone] == ["yes"]
    assert "| < 0.001 |" in as_markdown(study, [replace(alone[0], p=1e-9)], {})
    many = [study.columns[0], *(study.columns[1].model_copy(update={"name": f"boxes {i}"}) for i in range(199))]
    adjusted = rows_of(study.model_copy(update={"columns": many}), found)
    assert adjusted[0].p == pytest.approx(min(1, 200 * difference.p))
    assert adjusted[0].differences["siglip"] == difference


def test_other_arms_have_a_p_adjusted_over_columns_and_arms(study: Study) -> None:
    bit_more = [1, 0.35, 1, 0]
    arms = {**study.arms, "more": study.arms["siglip"], "most": study.arms["siglip"]}
    study = study.model_copy(update={"columns": study.columns[:1], "arms": arms})
    found = [each for seed in (1, 2) for each in scored("classify", seed, HALF * 20, LOW * 20)]
    for arm in ("siglip", "more", "most"):
        found += [each for seed in (1, 2) for each in scored(arm, seed, bit_more * 20, LOW * 20)]
    [row] = rows_of(study, found)
    raw = row.differences["siglip"].p
    assert row.p == raw
    assert row.others == {"more": pytest.approx(2 * raw), "most": pytest.approx(2 * raw)}
    assert as_markdown(study, [row], {}).count(", p < 0.001") == 2


def test_one_seed_of_an_arm_has_no_sign(study: Study) -> None:
    found = [*scored("classify", 1, HALF * 25, LOW), *scored("classify", 2, HALF * 25, LOW)]
    rows = rows_of(study, [*found, *scored("siglip", 1, MOST * 25, MOST)])
    assert [row.sign(study) for row in rows] == [ONE_SEED] * 2
    found = [*scored("classify", 1, [0], [0]), *scored("siglip", 1, [0.5], [0])]
    assert "| +50.0 |" in as_markdown(study, rows_of(study, found), {})  # of one sample, too: without an interval


@pytest.mark.parametrize("values", [HALF, [*HALF, 1]])
def test_models_are_compared_on_the_same_samples(study: Study, values: Sequence[float]) -> None:
    first, _ = scored("classify", 1, HALF, LOW)
    other, _ = scored("siglip", 2, values, LOW)
    other = replace(other, data="the same" if len(values) > len(HALF) else "another")
    message = "column questions: tiny/pico-1/classify and tiny/pico-2/siglip were asked about different samples"
    with pytest.raises(ValueError, match=message):
        rows_of(study, [first, other])


def test_all_arms_of_a_study_are_drawn(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [*scored("classify", 1, HALF, LOW), *scored("siglip", 1, [1, 0, 1, -1e-4], LOW)]
    found += [*scored("siglip, then classify", 1, [1, 1, 1, 0], LOW)]
    drawn: dict[str, list[float]] = {}
    errorbar = Axes.errorbar

    def record(self: Axes, x: Sequence[float], *more: Any, label: str, **options: Any) -> object:
        drawn[label] = [*x]
        return errorbar(self, x, *more, label=label, **options)

    monkeypatch.setattr(Axes, "errorbar", record)
    rows = rows_of(study, found)
    draw_table(study, rows, tmp_path / "table.png")
    assert drawn == {
        f"{arm}, pico, 1 seed": [row.differences[arm].value for row in rows if arm in row.differences]
        for arm in ("siglip", "siglip, then classify")
    }
