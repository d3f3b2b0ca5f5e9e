"""Of several parts of a bundle, the one that reads best answers: in Python, in bulk, and through the scheduler."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from openpali.eval.benchmark import AnswerBenchmark
from openpali.eval.runner import run
from openpali.infer.bulk import Request, replies
from openpali.infer.generate import Decoding, Generation
from openpali.infer.pali import Pali
from openpali.infer.pipeline import Prediction
from openpali.infer.routing import ask_in_turn
from openpali.metrics.calibration import Calibration
from openpali.serve.scheduler import Scheduler
from openpali.tasks.base import Answer
from openpali.tasks.example import Example
from openpali.weights.format import add_facts
from openpali.weights.ood import OodDetector, write_ood

PROMPT = "Generate the ocr_text in en: <extra_id_0>"
SURE, UNSURE = Calibration(1e3, 4.0), Calibration(1e3, 0.0)  # of whatever log-probability
ROWS = [np.full((height, width, 3), 90, np.uint8) for height, width in ((40, 20), (20, 20), (20, 200))]


def said(confidence: float | None, ood: bool | None = False) -> Prediction:
    score = None if ood is None else 1.5 if ood else 0.5
    return Prediction("p", Answer("a", (), confidence), Generation([], [], 0.0, "eos"), score)


@pytest.mark.parametrize(
    ("answers", "asked", "given"),
    [
        ([said(0.985), said(0.99)], 1, 0),  # the first is sure
        ([said(0.43), said(0.99)], 2, 1),
        ([said(0.6), said(0.5)], 2, 0),
        ([said(0.95, ood=True), said(0.3)], 2, 1),  # confidence says less of images out of distribution
        ([said(0.97, ood=True), said(0.01)], 2, 0),  # but something
        ([said(0.99, ood=True), said(0.995, ood=True)], 2, 1),
        ([said(None), said(0.2)], 2, 1),  # the first was cut
        ([said(None), said(None)], 2, 0),
        ([said(0.985, ood=None), said(0.99)], 1, 0),  # the part does not say which images it knows
    ],
)
def test_the_surest_of_the_parts_that_know_the_image(answers: Sequence[Prediction], asked: int, given: int) -> None:
    parts, seen = [str(i) for i in range(len(answers))], []

    def ask(part: str, rows: Sequence[int]) -> list[Prediction]:
        seen.append(part)
        return [answers[int(part)]] * len(rows)

    [found] = ask_in_turn([parts], ask)
    assert seen == parts[:asked]
    assert found.part == str(given)
    assert found.answer is answers[given].answer


def test_each_row_asks_its_own_parts_in_its_own_order() -> None:
    asked = []

    def ask(part: str, rows: Sequence[int]) -> list[Prediction]:
        asked.append((part, list(rows)))
        return [said(0.99 if part == "b" else 0.1) for _ in rows]

    found = ask_in_turn([("a", "b"), ("b", "a"), ("a",), ("a", "c")], ask)
    assert [each.part for each in found] == ["b", "b", "a", "a"]
    assert asked == [("a", [0, 2, 3]), ("b", [1]), ("b", [0]), ("c", [3])]
    assert ask_in_turn([], ask) == []


def bundle(readers: Path, folder: Path, pali: Calibration, line: Calibration, ood: str = "") -> Pali:
    """The readers with calibrations; one part may know no image."""
    shutil.copytree(readers, folder)
    for part, calibration in (("pali", pali), ("line", line)):
        add_facts(folder / part, calibration={"ocr": asdict(calibration)})
    if ood:
        d = 2 * Pali(folder).pipeline(ood).model.vit.config.width
        unknown = OodDetector(torch.zeros(d), torch.eye(d), torch.full((1, d), 1e3), torch.tensor(1.0))
        write_ood(folder / ood, unknown)
    return Pali(folder)


@pytest.mark.parametrize(
    ("pali", "line", "ood", "expected"),
    [
        (SURE, UNSURE, "", ["pali", "pali", "line"]),  # pali would squash the third
        (UNSURE, SURE, "", ["line", "line", "line"]),
        (SURE, SURE, "", ["pali", "pali", "line"]),  # the nearest proportions
        (SURE, UNSURE, "line", ["pali", "pali", "line"]),
        (SURE, UNSURE, "pali", ["line", "line", "line"]),
    ],
)
def test_python_bulk_server_and_evaluation_give_the_same_answers(
    readers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pali: Calibration,
    line: Calibration,
    ood: str,
    expected: Sequence[str],
) -> None:
    monkeypatch.setattr(Generation, "complete", True)  # a random model hardly ever ends its answers
    model = bundle(readers, tmp_path / "both", pali, line, ood)
    alone = [model.predict([[row]], [PROMPT], part=part)[0] for row, part in zip(ROWS, expected, strict=True)]

    def check(found: Sequence[Prediction]) -> None:
        assert [each.part for each in found] == expected
        assert [each.generation.ids for each in found] == [each.generation.ids for each in alone]
        assert [each.confidence for each in found] == pytest.approx([each.confidence for each in alone], rel=1e-3)

    check(model.predict([[row] for row in ROWS], [PROMPT] * 3))
    assert model.read(ROWS) == [each.answer.text for each in alone]

    source = [Example(str(i), [row], text="x") for i, row in enumerate(ROWS)]
    bulk = [reply.prediction for some in replies(model, source, Request("ocr")) for reply in some]
    check([each for each in bulk if each])

    scheduler = Scheduler(model, slots=2)
    tickets = [scheduler.submit([row], PROMPT) for row in ROWS]
    while scheduler.turn():
        assert scheduler.used <= 2
    check([ticket.predictions(0)[0] for ticket in tickets])

    text = alone[0].answer.text
    stopped = scheduler.submit([ROWS[0]], PROMPT, stops=[text[3:6]])  # decides nothing: whole answers are compared
    while scheduler.turn():
        pass
    [cut] = stopped.predictions(0)
    assert (cut.part, cut.answer.text) == (expected[0], text[: text.index(text[3:6])].strip())

    benchmark = AnswerBenchmark(
        name="mine",
        title="",
        split="",
        layout=["mine"],
        open=lambda root: source,
        task="ocr",
        decoding=Decoding(max_tokens=256),
        part="line",
    )
    done = run(benchmark, model, tmp_path)
    assert [row.text for row in done.rows] == [each.answer.text for each in alone]
    assert done.card.model["part"] == "pali or line"
