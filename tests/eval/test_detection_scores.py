"""Scores of boxes under each policy, from tokens whose log-probabilities are known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from openpali.infer.generate import Generation
from openpali.infer.pali import Pali
from openpali.metrics.boxes import Detection, average_precision, detection_scores
from openpali.tasks.confidence import POLICIES, Policy, scored_boxes
from openpali.tasks.detect import Detect
from openpali.tasks.example import Size
from openpali.text.tokenizer import Tokenizer
from openpali.weights.family import open_tokenizer

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
def test_policies_by_hand(tokenizer: Tokenizer, style: Literal["text", "token"], text: str) -> None:
    task = Detect(bins=100, style=style)
    assert tokenizer.decode(tokenizer.encode(text)).split() == text.split()
    coordinate = "20" if style == "text" else "<loc0020>"
    generation = answer(tokenizer, text, {coordinate: 0.2, "blue": 0.4})
    found = {policy: scored_boxes(generation, tokenizer, task.codec, SIZE, policy) for policy in POLICIES}
    for boxes in found.values():
        assert [box.name for box in boxes] == ["red circle", "blue star"]
        assert [tuple(round(edge) for edge in box.box) for box in boxes] == [(10, 40, 30, 80), (50, 120, 70, 160)]
    blue, star = (len(tokenizer.encode(word)) for word in ("blue", "star"))
    name = math.exp((blue * math.log(0.4) + star * math.log(0.9)) / (blue + star))
    red = len(tokenizer.encode("red")) + len(tokenizer.encode("circle"))
    assert [box.score for box in found["constant"]] == [1.0, 1.0]
    assert [box.score for box in found["coordinates"]] == pytest.approx([(0.2 * 0.9**3) ** 0.25, 0.9])
    assert [box.score for box in found["name"]] == pytest.approx([0.9, name])
    if style == "token":  # this vocabulary spells them: how many tokens each takes is not the point
        assert all(0 < p.score < m.score for p, m in zip(found["product"], found["mean"], strict=True))
        return
    products = [0.2 * 0.9 ** (3 + red), 0.9 ** (4 + star) * 0.4**blue]
    assert [box.score for box in found["product"]] == pytest.approx(products)
    assert found["mean"][0].score == pytest.approx(products[0] ** (1 / (4 + red)))


def test_broken_answers_have_scores_of_what_can_be_read(tokenizer: Tokenizer) -> None:
    task = Detect(bins=100)
    generation = answer(tokenizer, "red 10 20 30 40 circle 50 60 star 70", {"red": 0.1, "star": 0.3})
    [box] = scored_boxes(generation, tokenizer, task.codec, SIZE, "coordinates")
    assert box.score == pytest.approx(0.9)  # what stands before the first box is of no box
    assert scored_boxes(answer(tokenizer, "none", {}), tokenizer, task.codec, SIZE) == []
    with pytest.raises(ValueError, match="unknown score policy 'area'"):
        scored_boxes(generation, tokenizer, task.codec, SIZE, "area")  # type: ignore[arg-type]


def test_ap_names_its_policy_and_f1_needs_none() -> None:
    truth = [[Detection("cat", (0, 0, 9, 9))]]
    right, wrong = Detection("cat", (0, 0, 9, 9), 0.9), Detection("cat", (50, 50, 60, 60), 0.5)
    swapped = [[Detection(*right[:2], 0.5), Detection(*wrong[:2], 0.9)]]
    policies: list[Policy] = ["mean", "product"]
    scores = detection_scores([[[right, wrong]], swapped], truth, policies).summary
    assert scores["ap/mean"] == 1.0
    assert (
        scores["ap/product"] == pytest.approx(average_precision(swapped, truth).summary["ap"]) == pytest.approx(0.5)
    )
    assert scores["f1@0.5"] == pytest.approx(2 / 3)
    assert "ap" not in scores
    with pytest.raises(ValueError, match="1 lists of scored boxes for 2 policies"):
        detection_scores([[[right]]], truth, policies)


def test_a_model_answers_with_a_log_probability_for_each_token(family: Path) -> None:
    pali = Pali.from_pretrained(family)
    task = pali.task("detect")
    assert isinstance(task, Detect)
    image = np.zeros((72, 72, 3), np.uint8)
    [prediction] = pali.predict([[image]], ["detect: red circle"], task=task)
    tokenizer = open_tokenizer("nano-vocabulary")
    for policy in POLICIES:
        boxes = scored_boxes(prediction.generation, tokenizer, task.codec, Size(72, 72), policy)
        assert [tuple(box.box) for box in boxes] == [tuple(thing.box) for thing in prediction.answer.objects]
        assert all(0 <= box.score <= 1 for box in boxes)
