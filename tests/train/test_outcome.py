"""The sentence at the end of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import make_recipe

from openpali.train.outcome import describe_outcome

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
