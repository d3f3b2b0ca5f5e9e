"""Answers -> scores: the default scorers of tasks, for benchmarks without another protocol."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from openpali.metrics import caption
from openpali.metrics.boxes import Detection, average_precision, box_iou, detection_f1
from openpali.metrics.exact import exact_match
from openpali.metrics.masks import mask_scores
from openpali.metrics.ocr import ocr
from openpali.metrics.scores import Scores, mean, mean_scores

CLAIMS = "claims"  # among the values of an answer: the result of `Task.claims`
CONFIDENCES = "confidences"  # among the values of an answer: the confidence of each claim
UNASKED = "unasked"  # among the values of an empty answer: why its prompt could not be asked


@dataclass(frozen=True)
class Answered:
    """A sample and the model's answer: the input of every scorer. Plain JSON values, no pixels.

    Attributes:
        index: index of the sample in its source.
        key: the sample's key.
        prompt: what the model was asked.
        text: the answer as its task reads it.
        references: the correct answers, or the texts to compare with.
        kind: slice under which it is scored (a language, "human", ...); may be empty.
        values: the result of ``Task.measure`` ("intersection", "union", boxes with their scores) and, under
            :data:`CLAIMS` and :data:`CONFIDENCES` where confidence is judged, and :data:`UNASKED`: numbers and
            texts, or nested lists of these.
    """

    index: int
    key: str
    prompt: str
    text: str
    references: Sequence[str]
    kind: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For a line of a predictions file; ``Answered(**line)`` is the inverse."""
        return dataclasses.asdict(self)


Score = Callable[[Sequence[Answered]], Scores]
"""Answers, in any order -> scores; per-sample values are in the order of the answers."""


def texts(rows: Sequence[Answered]) -> list[str]:
    return [row.text for row in rows]


def references(rows: Sequence[Answered]) -> list[Sequence[str]]:
    """All correct answers of each sample."""
    return [row.references for row in rows]


def first_references(rows: Sequence[Answered]) -> list[str]:
    """The first correct answer of each sample, for metrics that take one."""
    return [row.references[0] for row in rows]


# ---- scores of texts


def captions(rows: Sequence[Answered]) -> Scores:
    """CIDEr, BLEU-1..4, ROUGE-L and exact match."""
    return caption.caption(texts(rows), references(rows))


def exact(rows: Sequence[Answered]) -> Scores:
    """Exact match, case and all."""
    return exact_match(texts(rows), references(rows))


def reading(rows: Sequence[Answered]) -> Scores:
    """Character and word error rates, and exact match."""
    return ocr(texts(rows), first_references(rows))


# ---- scores of boxes and masks, from the results of ``Task.measure``


def segmentation(rows: Sequence[Answered]) -> Scores:
    """mIoU, oIoU and P@t of masks, box accuracy, and the mIoU of the targets themselves (``ceiling``)."""
    overlaps = [(int(row.values["intersection"]), int(row.values["union"])) for row in rows]
    boxes = [row.values["box_iou"] for row in rows]
    rest = {
        "box_accuracy@0.5": [float(iou >= 0.5) for iou in boxes],
        "box_accuracy@0.75": [float(iou >= 0.75) for iou in boxes],
        "ceiling": [row.values["ceiling"] for row in rows],
        "invalid": [row.values["invalid"] for row in rows],
    }
    scores, others = mask_scores(overlaps), mean_scores(rest)
    return Scores(scores.summary | others.summary, scores.per_sample | others.per_sample)


def detections(rows: Sequence[Answered]) -> Scores:
    """Mean IoU of each true box with the nearest answer, COCO's AP by mean token scores, F1 at IoU 0.5.

    Where there is no true box, IoU is 1 for no answer, else 0. There is no AP if no sample has a true box.
    """
    found, true = boxes(rows)
    ious = [
        float(box_iou([thing.box for thing in there], [thing.box for thing in seen]).max(axis=1).mean())
        if seen and there
        else float(not seen and not there)
        for seen, there in zip(found, true, strict=True)
    ]
    f1 = detection_f1(found, true)
    precision = average_precision(found, true).summary if any(true) else {}
    named = {f"{name}/mean": value for name, value in precision.items()}  # see `tasks.confidence`
    return Scores({"iou": mean(ious)} | f1.summary | named, {"iou": ious} | f1.per_sample)


def boxes(rows: Sequence[Answered]) -> tuple[list[list[Detection]], list[list[Detection]]]:
    """The boxes of each answer, and the true ones, as tasks measure them."""
    found, true = (
        [[Detection(name, box, score) for name, *box, score in row.values[side]] for row in rows]
        for side in ("found", "true")
    )
    return found, true


# ---- kinds of sample


def with_slices(score: Score) -> Score:
    """Over all samples, and over each kind alone as ``NAME/KIND``."""

    @wraps(score)
    def sliced(rows: Sequence[Answered]) -> Scores:
        whole = score(rows)
        return Scores(whole.summary | slices(by_kind(score, rows, strict=False)), whole.per_sample)

    return sliced


def by_kind(score: Score, rows: Sequence[Answered], *, strict: bool = True) -> dict[str, Scores]:
    """The scores of each kind of sample alone; unless ``strict``, without kinds that cannot be scored alone."""
    found = {}
    for kind in sorted({row.kind for row in rows}):
        with nullcontext() if strict else suppress(ValueError):
            found[kind] = score([row for row in rows if row.kind == kind])
    return found


def slices(scores: Mapping[str, Scores]) -> dict[str, float]:
    """Scores of kinds by name, ``NAME/KIND``; without those of no kind and those that are slices already."""
    return {
        f"{name}/{kind}": value
        for kind, own in scores.items()
        if kind
        for name, value in own.summary.items()
        if "/" not in name
    }
