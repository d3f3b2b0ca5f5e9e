"""A task scores its answers; its metric is one of these scores."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from openpali.infer.generate import Generation
from openpali.tasks import TASKS, get_task
from openpali.tasks.scoring import Answered

NAMES = sorted(set(TASKS) - {"contrastive"})


def perfect(name: str, example, rng, options, tokenizer, count: int = 6) -> list[Answered]:
    """The scored rows of a model that gives the correct answers."""
    task = get_task(name, **options.get(name, {}))
    rows = []
    for index in range(count):
        example = replace(example, question=f"what color is horse {index}?")  # CIDEr is 0 where all are alike
        sample = task.write(example, rng)
        answer = task.parse(sample.target, example.size)
        ids = tokenizer.encode(sample.target)
        generated = Generation(ids, [0.0] * (len(ids) + 1), 0.0, "eos")
        values = dict(task.measure(example, sample, answer, generated, tokenizer))
        rows.append(
            Answered(index, f"k{index}", sample.prompt, answer.text, sample.references, sample.kind, values)
        )
    return rows


@pytest.mark.parametrize("name", NAMES)
def test_the_metric_is_a_score_and_right_answers_beat_wrong_ones(
    name: str, example, rng, options, tokenizer
) -> None:
    family = TASKS[name]
    rows = perfect(name, example, rng, options, tokenizer)
    assert json.loads(json.dumps([dict(row.values) for row in rows])) == [row.values for row in rows], "plain JSON"
    right = family.score(rows)
    assert len(right.per_sample[family.metric]) == len(rows)
    wrong = [replace(row, text="zzz", values=_nothing(row)) for row in rows]
    difference = right.summary[family.metric] - family.score(wrong).summary[family.metric]
    assert difference < 0 if family.metric == "cer" else difference > 0
    assert family.rights([*rows, *wrong]) == [True] * len(rows) + [False] * len(wrong)
    assert family.rights(rows[:1]) == [True]


@pytest.mark.parametrize("name", ["caption", "vqa", "classify"])
def test_outer_white_space_of_the_truth_does_not_matter(name: str, example, rng, options, tokenizer) -> None:
    spaced = {"captions": {"en": [" A red horse.\n"]}, "answers": ["\tred ", " dark red"], "label": "horse "}
    rows = perfect(name, replace(example, **spaced), rng, options, tokenizer)
    assert TASKS[name].rights(rows) == [True] * len(rows)
    assert [TASKS[name].right_claims(row) for row in rows] == [[True]] * len(rows)


def test_boxes_are_right_if_each_true_one_is_found_and_no_other(example, rng, options, tokenizer) -> None:
    [row] = perfect("detect", example, rng, options, tokenizer, count=1)
    found = row.values["found"]
    for wrong in (found[1:], [*found, found[0]], [["zebra", *found[0][1:]], *found[1:]]):
        assert TASKS["detect"].rights([replace(row, values={**row.values, "found": wrong})]) == [False]


def test_a_right_answer_about_some_of_the_names_is_right(example, rng, options, tokenizer) -> None:
    assert len({thing.name for thing in example.objects}) > 1
    rows = perfect("detect", example, rng, {"detect": {**options.get("detect", {}), "max_names": 1}}, tokenizer)
    assert TASKS["detect"].score(rows).summary["f1@0.5"] == 1.0


def test_white_space_in_a_name_does_not_matter(example, rng, options, tokenizer) -> None:
    spaced = [" big dog ", "big  dog", "big\thorse"]
    objects = [replace(thing, name=name) for thing, name in zip(example.objects, spaced, strict=True)]
    example = replace(example, objects=objects, vocabulary=["big horse "])
    rows = perfect("detect", example, rng, {"detect": {"absent": 1.0}}, tokenizer)
    assert {name for row in rows for name, *_ in row.values["true"]} == {"big dog", "big horse"}
    assert TASKS["detect"].rights(rows) == [True] * len(rows)


def test_an_image_without_true_boxes_is_right_if_nothing_is_found(example, rng, options, tokenizer) -> None:
    [row] = perfect("detect", example, rng, options, tokenizer, count=1)
    nothing = {"found": [], "true": []}
    quiet, wrong = (replace(row, values={**nothing, "found": found}) for found in ([], row.values["found"]))
    scores = TASKS["detect"].score([row, quiet, wrong])
    assert scores.per_sample["iou"][1:] == [1, 0]
    assert "ap/mean" in scores.summary
    assert TASKS["detect"].score([quiet, wrong]).summary.keys() == {"iou", "f1@0.5", "precision@0.5", "recall@0.5"}


def _nothing(row: Answered) -> dict[str, object]:
    if "found" in row.values:
        return {**row.values, "found": []}
    if "intersection" in row.values:
        return {**row.values, "intersection": 0, "box_iou": 0.0}
    return dict(row.values)


def test_answers_in_words_are_scored_per_kind() -> None:
    rows = [
        Answered(i, f"k{i}", "p", text, ("yes",), kind)
        for i, (text, kind) in enumerate([("yes", "is"), ("no", "is"), ("yes", "count")])
    ]
    scores = TASKS["vqa"].score(rows)
    assert scores.summary == {
        "exact_match": pytest.approx(2 / 3),
        "exact_match/is": 0.5,
        "exact_match/count": 1.0,
    }
    assert scores.per_sample == {"exact_match": [1.0, 0.0, 1.0]}


def test_contrastive_has_no_answers() -> None:
    with pytest.raises(ValueError):
        TASKS["contrastive"].score([])
