"""The sheet of the worst answers: which, in which order, with true boxes in white."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from openpali.eval.registry import find_benchmark
from openpali.eval.runner import Run, run
from openpali.infer.pali import Pali
from openpali.metrics.boxes import Detection
from openpali.reports.drawing import count_mask_tokens
from openpali.tasks.example import Box
from openpali_lab.documents.failures import CELL, draw_failures
from openpali_lab.documents.page_failures import Mistakes


@pytest.fixture(scope="module")
def runs(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    pali, root = Pali.from_pretrained(bundle), tmp_path_factory.mktemp("data")
    return [run(find_benchmark(name), pali, root, limit=3) for name in ("nano/detect", "nano/refseg")]


def test_the_worst_answers_of_each_benchmark_are_in_a_row(runs: list[Run]) -> None:
    drawn = np.asarray(draw_failures(runs, each=2))
    assert drawn.shape[1] == 2 * CELL
    assert drawn.shape[0] > 2 * CELL, "two rows, with words below the images"
    first = runs[0]
    assert first.source is not None
    [worst, _] = sorted(range(3), key=lambda i: first.scores.per_sample["iou"][i])[:2]
    example = first.source[first.rows[worst].index]
    [box] = [thing.box for thing in example.objects][:1]
    scale = CELL / example.size.height
    middle = round((box.ymin + box.ymax) / 2 * scale)
    assert (drawn[middle, max(0, round(box.xmin * scale) - 6) : round(box.xmin * scale) + 6] > 240).all(-1).any()


def test_answers_that_are_all_right_are_no_failures(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(runs[0].scores.per_sample, "iou", [1.0] * 3)
    with pytest.raises(ValueError):
        draw_failures(runs[:1])


def test_mask_tokens_are_counted() -> None:
    assert count_mask_tokens("1 2 3 4 <mask_token7> <mask_token12> a <seg001><seg002>") == (
        "1 2 3 4 [2 mask tokens] a [2 mask tokens]"
    )


def test_wrong_and_missed_words_of_a_page_are_drawn() -> None:
    def word(text: str, left: float) -> Detection:
        return Detection(text, Box(10, left, 20, left + 10))

    true = [word("right", 10), word("right", 30), word("missed", 50)]
    mistakes = Mistakes.of([word("right", 30), word("misled", 50), word("noise", 90)], true)
    assert [each.name for each in mistakes.wrong] == ["misled", "noise"]
    assert [(each.name, each.box[1]) for each in mistakes.missed] == [("right", 10)]
    assert len(mistakes) == 3
    blank = np.full((60, 120, 3), 255, np.uint8)
    drawn = np.asarray(mistakes.draw(blank))[:60]
    assert (drawn[15, 90] != 255).any(), "noise is outlined"
    assert (drawn[15, 35] == 255).all(), "what is right is not"
