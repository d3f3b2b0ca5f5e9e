"""Which part of a family answers: the first that is sure of an image in its distribution, else the surest.

Proportions alone do not tell a short printed word from a word of capitals. Confidence does, where a part is
calibrated on such images; of others it says nothing, and the out-of-distribution score tells which those are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from openpali.infer.pipeline import Prediction, group

SURE = 0.9  # confidence at which no other part is asked

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
    """Whether no other part need be asked: the images are in distribution, and the confidence is high."""
    return not prediction.out_of_distribution and (prediction.confidence or 0.0) >= SURE


def best(found: Sequence[Prediction]) -> int:
    """Which of the answers of several parts to give, in the order in which they were asked.

    That is the surest of a part for which the images are in distribution; without one, the surest of all.
    """
    keys = [(not each.out_of_distribution, each.confidence or 0.0) for each in found]
    return keys.index(max(keys))
