"""Confidence of boxes that a model wrote as text, so that average precision has something to rank by.

Boxes as text have no score of their own. What there is are the log-probabilities of their tokens, and several ways
to make one number of them: the policy. AP differs between policies, so it is never given without its policy's name,
and F1, which needs no scores, stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

from openpali.infer.generate import Generation
from openpali.metrics.boxes import Detection, average_precision, detection_f1
from openpali.metrics.scores import Scores
from openpali.tasks.detect import Detect
from openpali.tasks.example import Size
from openpali.text.tokenizer import Tokenizer

Policy = Literal["mean", "coordinates", "name", "product", "constant"]
"""How a box's score is made of its tokens' probabilities: geometric mean over all of them, over those of the four
coordinates, or over those of the name; the product of all; or 1 for every box (then AP ranks by order alone)."""

POLICIES: tuple[Policy, ...] = get_args(Policy)


def scored_boxes(
    generation: Generation, tokenizer: Tokenizer, task: Detect, size: Size, policy: Policy = "mean"
) -> list[Detection]:
    """The boxes of a detection answer, each with a score in 0..1.

    Args:
        generation: with a log-probability for each token; where it is a beam's, they are the model's all the same.
        tokenizer: that wrote it.
        task: that reads it.
        size: height and width of the picture in pixels.
        policy: see :data:`Policy`.

    Raises:
        ValueError: an unknown policy.
    """
    if policy not in POLICIES:
        raise ValueError(f"no score policy is called {policy!r}; there are {', '.join(POLICIES)}")
    text = tokenizer.decode(generation.ids)
    owners = _word_of_token(generation.ids, tokenizer, task.codec.words(text), text)
    found = []
    for box, name, place in task.codec.find_named(text, size):
        wanted = {"coordinates": place[:4], "name": place[4:]}.get(policy, place)
        logs = [
            log for owner, log in zip(owners, generation.log_probs[: len(owners)], strict=True) if owner in wanted
        ]
        total = math.fsum(logs)
        score = {"constant": 0.0, "product": total}.get(policy, total / max(1, len(logs)))
        found.append(Detection(name, box, math.exp(score)))
    return found


def detection_scores(
    predictions: Sequence[Sequence[Sequence[Detection]]],
    references: Sequence[Sequence[Detection]],
    policies: Sequence[Policy],
) -> Scores:
    """COCO average precision under each policy (``ap/mean``, ``ap50/mean``, ...), and ``f1@0.5`` without scores.

    Args:
        predictions: per policy, the scored boxes of each picture.
        references: true boxes of each picture.
        policies: their names, in the order of ``predictions``.

    Raises:
        ValueError: no policies, unequal numbers, or as :func:`~openpali.metrics.boxes.average_precision`.
    """
    if not policies or len(policies) != len(predictions):
        raise ValueError(
            f"{len(predictions)} lists of scored boxes for {len(policies)} policies: give one for each"
        )
    f1 = detection_f1(predictions[0], references)
    summary = dict(f1.summary)
    for policy, scored in zip(policies, predictions, strict=True):
        precision = average_precision(scored, references).summary
        summary |= {f"{name}/{policy}": value for name, value in precision.items()}
    return Scores(summary, f1.per_sample)


def _word_of_token(ids: Sequence[int], tokenizer: Tokenizer, words: Sequence[str], text: str) -> list[int]:
    """Number of the word that each token writes to, -1 before the first."""
    ends, at = [], 0
    for word in words:
        at = text.index(word, at) + len(word)
        ends.append(at)
    owners = []
    for count in range(1, len(ids) + 1):
        written = len(tokenizer.decode(ids[:count]))
        owners.append(next((n for n, end in enumerate(ends) if written <= end), len(words) - 1) if written else -1)
    return owners
