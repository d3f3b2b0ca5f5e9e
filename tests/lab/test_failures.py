"""Mistakes of pages, as they are drawn."""

from __future__ import annotations

import numpy as np

from openpali.metrics.boxes import Detection
from openpali.reports.drawing import count_mask_tokens
from openpali.tasks.example import Box
from openpali_lab.documents.page_failures import Mistakes


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
