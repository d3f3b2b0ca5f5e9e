"""Which part of a bundle answers: the first that is confident, else the most confident.

The proportions of an image do not say whether it shows a printed word or drawn capitals; confidence does, for
images like those that a part was calibrated on. It counts for less the higher the out-of-distribution score is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from openpali.infer.pipeline import Prediction, group

SURE = 0.98  # confidence at which no other part is asked; chosen on development sets, as the next two
OUT_OF_DISTRIBUTION = 0.3
"""Factor of the confidence in an answer about images at the limit of the distribution; further out it falls."""
SQUASHED = 2.0
"""Most that a part may squash an image to be asked about it, if another part squashes it less."""

Ask = Callable[[str, Sequence[int]], Sequence[Prediction]]
"""Part and indices of rows -> the part's answers."""


def ask_in_turn(parts: Sequence[Sequence[str]], ask: Ask) -> list[Prediction]:
    """The best answer to each row.

    Args:
        parts: of each row, that may answer it, in the order in which they are asked.
    """
    found: list[list[Prediction]] = [[] for _ in parts]
    for turn in range(max(map(len, parts), default=0)):
        left = [
            row for row, some in enumerate(parts) if turn < len(some) and not (turn and is_sure(found[row][-1]))
        ]
        for part, places in group([parts[row][turn] for row in left]).items():
            rows = [left[place] for place in places]
            for row, prediction in zip(rows, ask(part, rows), strict=True):
                found[row].append(replace(prediction, part=part))
    return [some[best(some)] for some in found]


def is_sure(prediction: Prediction) -> bool:
    """Whether no other part need be asked."""
    return trust(prediction) >= SURE


def best(found: Sequence[Prediction]) -> int:
    """Which of the answers of several parts to give, in the order in which they were asked."""
    return max(range(len(found)), key=lambda turn: trust(found[turn]))


def trust(prediction: Prediction) -> float:
    """The confidence in an answer, 0..1, less if the images are out of distribution; 0 without one."""
    far = prediction.ood_score if prediction.out_of_distribution else None  # 1 at the limit
    return (prediction.confidence or 0.0) * (OUT_OF_DISTRIBUTION / far if far else 1.0)
