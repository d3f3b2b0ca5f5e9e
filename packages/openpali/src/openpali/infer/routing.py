"""Components are asked in turn until one is confident; else the most confident one answers.

The proportions of an image do not say whether it shows a printed word or drawn capitals; confidence does, for
images like those that a component was calibrated on. It counts for less, the higher the out-of-distribution score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from openpali.infer.batches import group
from openpali.infer.pipeline import Prediction

SETTLES = 0.98  # confidence at which no other component is asked; chosen on development sets, as the next one
OUT_OF_DISTRIBUTION = 0.3
"""Factor of confidence at an OOD score of 1; beyond, confidence is multiplied by this over the score."""

AskPart = Callable[[str, Sequence[int]], Sequence[Prediction]]
"""Part and indices of rows -> the part's answers."""


def ask_in_turn(parts: Sequence[Sequence[str]], ask: AskPart) -> list[Prediction]:
    """The best answer to each row.

    Args:
        parts: of each row, that may answer it, in the order in which they are asked.
    """
    found: list[list[Prediction]] = [[] for _ in parts]
    for turn in range(max(map(len, parts), default=0)):
        open_rows = [row for row, some in enumerate(found) if next_turn(some, len(parts[row])) == turn]
        for part, places in group([parts[row][turn] for row in open_rows]).items():
            rows = [open_rows[place] for place in places]
            for row, prediction in zip(rows, ask(part, rows), strict=True):
                found[row].append(replace(prediction, part=part))
    return [some[next_turn(some, len(some))] for some in found]


def next_turn(found: Sequence[Prediction], count: int) -> int:
    """Which of ``count`` components to ask next, that is ``len(found)``; or whose answer to give, if it is settled.

    Args:
        found: the answers of the first components.
    """
    if not found or (len(found) < count and trust(found[-1]) < SETTLES):
        return len(found)
    return max(range(len(found)), key=lambda turn: trust(found[turn]))


def trust(prediction: Prediction) -> float:
    """The confidence in an answer, 0..1, less if the images are out of distribution; 0 without one."""
    score = prediction.ood_score if prediction.out_of_distribution else None  # 1 at the limit
    return (prediction.confidence or 0.0) * (OUT_OF_DISTRIBUTION / score if score else 1.0)
