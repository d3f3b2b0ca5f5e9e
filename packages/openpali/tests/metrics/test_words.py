"""F1 of the words of pages."""

from __future__ import annotations

import pytest

from openpali.metrics.boxes import Detection
from openpali.metrics.words import word_f1

TRUE = [Detection("Save", (0, 0, 20, 50)), Detection("as", (0, 60, 20, 80)), Detection("Save", (40, 0, 60, 50))]


def test_a_word_is_right_with_its_text_in_its_place() -> None:
    found = [
        Detection("Save", (5, 10, 15, 40)),  # around the ink
        Detection("Save", (0, 2, 20, 52)),  # the same again
        Detection("As", (0, 60, 20, 80)),  # another text
        Detection("Save", (100, 0, 120, 50)),  # another place
    ]
    scores = word_f1([found, []], [TRUE, []])
    assert scores.summary["word_precision"] == 1 / 4
    assert scores.summary["word_recall"] == 1 / 3
    assert scores.summary["word_f1"] == pytest.approx(2 / 7)
    assert scores.per_sample["word_f1"] == [pytest.approx(2 / 7), 1.0]


def test_all_words_in_any_order() -> None:
    assert word_f1([TRUE[::-1]], [TRUE]).summary["word_f1"] == 1
