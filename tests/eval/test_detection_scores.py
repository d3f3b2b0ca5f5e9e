"""Scores of boxes, from tokens whose log-probabilities are known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from openpali.infer.generate import Generation
from openpali.infer.pali import Pali
from openpali.tasks.confidence import box_log_probs, scored_boxes
from openpali.tasks.detect import Detect
from openpali.tasks.example import Size
from openpali.tasks.scoring import Answered, detections
from openpali.text.tokenizer import Tokenizer
from openpali.weights.bundle import open_tokenizer

SIZE = Size(99, 198)
STYLES: list[tuple[Literal["text", "token"], str]] = [
    ("text", "10 20 30 40 red circle 50 60 70 80 blue star"),
    ("token", "<loc0010><loc0020><loc0030><loc0040> red circle <loc0050><loc0060><loc0070><loc0080> blue star"),
]


@pytest.fixture(scope="module")
def tokenizer(world_with_vocabulary: Path) -> Tokenizer:
    return open_tokenizer("nano-vocabulary")


def answer(tokenizer: Tokenizer, text: str, chances: dict[str, float]) -> Generation:
    """A generation of ``text`` whose tokens have probability 0.9, but those of some parts of it, in order."""
    ids = tokenizer.encode(text)
    decoded = tokenizer.decode(ids)
    chance_at = [0.9] * len(decoded)
    for part, chance in chances.items():
        start = decoded.index(part)
        chance_at[start : start + len(part)] = [chance] * len(part)
    logs = []
    for count in range(1, len(ids) + 1):
        written = len(tokenizer.decode(ids[:count]))
        logs.append(math.log(chance_at[max(0, written - 1)]))
    return Generation(ids, [*logs, math.log(0.5)], sum(logs), "eos")  # EOS is of no box


@pytest.mark.parametrize(("style", "text"), STYLES)
def test_scores_by_hand(tokenizer: Tokenizer, style: Literal["text", "token"], text: str) -> None:
    task = Detect(bins=100, style=style)
    assert tokenizer.decode(tokenizer.encode(text)).split() == text.split()
    coordinate = "20" if style == "text" else "<loc0020>"
    generation = answer(tokenizer, text, {coordinate: 0.2, "blue": 0.4})
    boxes = scored_boxes(generation, tokenizer, task.codec, SIZE)
    assert [box.name for box in boxes] == ["red circle", "blue star"]
    assert [tuple(round(edge) for edge in box.box) for box in boxes] == [(10, 40, 30, 80), (50, 120, 70, 160)]
    if style == "token":  # this vocabulary spells them: how many tokens each takes is not the point
        assert all(0.2 < box.score < 0.9 for box in boxes)
        return
    red, blue, star = (len(tokenizer.encode(word)) for word in ("red circle", "blue", "star"))
    assert [box.score for box in boxes] == pytest.approx(
        [(0.2 * 0.9 ** (3 + red)) ** (1 / (4 + red)), (0.9 ** (4 + star) * 0.4**blue) ** (1 / (4 + blue + star))]
    )


def test_broken_answers_have_scores_of_what_can_be_read(tokenizer: Tokenizer) -> None:
    task = Detect(bins=100)
    generation = answer(tokenizer, "red 10 20 30 40 circle 50 60 star 70", {"red": 0.1})
    [box] = scored_boxes(generation, tokenizer, task.codec, SIZE)
    assert 0.1 < box.score <= 0.9 + 1e-9  # what stands before the first box is of no box
    assert scored_boxes(answer(tokenizer, "none", {}), tokenizer, task.codec, SIZE) == []


@pytest.mark.parametrize(("text", "sums"), [("1 2 3 4 🙂", [-9]), ("1 2 3 4 🙂 5 6 7 8 🙂", [-9, -9])])
def test_all_bytes_of_a_character_are_of_its_box(tokenizer: Tokenizer, text: str, sums: list[int]) -> None:
    ids = tokenizer.encode(text)
    assert box_log_probs(Generation(ids, [-1.0] * len(ids), 0.0, "eos"), tokenizer, Detect(bins=100).codec) == sums


def test_ap_names_the_scores_of_boxes_and_f1_needs_none() -> None:
    found = [["cat", 0, 0, 9, 9, 0.5], ["cat", 50, 50, 60, 60, 0.9]]
    scores = detections([Answered(0, "", "", "", (), values={"found": found, "true": [found[0]]})]).summary
    assert scores["ap/mean"] == pytest.approx(0.5)
    assert scores["f1@0.5"] == pytest.approx(2 / 3)
    assert "ap" not in scores


def test_a_model_answers_with_a_log_probability_for_each_token(bundle: Path) -> None:
    pali = Pali.from_pretrained(bundle)
    task = pali.task("detect")
    assert isinstance(task, Detect)
    image = np.zeros((72, 72, 3), np.uint8)
    [prediction] = pali.predict([[image]], ["detect: red circle"], task=task)
    tokenizer = open_tokenizer("nano-vocabulary")
    boxes = scored_boxes(prediction.generation, tokenizer, task.codec, Size(72, 72))
    assert [tuple(box.box) for box in boxes] == [tuple(thing.box) for thing in prediction.answer.objects]
    assert all(0 <= box.score <= 1 for box in boxes)
