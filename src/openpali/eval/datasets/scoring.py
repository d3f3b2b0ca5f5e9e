"""Answers -> scores: how the benchmarks use the metrics, with slices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, wraps

import numpy as np

from openpali.eval.datasets.base import Answered, Score
from openpali.eval.detection import Policy, detection_scores, scored_boxes
from openpali.home import data_folder
from openpali.infer.pipeline import Prediction
from openpali.metrics import caption, vqa
from openpali.metrics.boxes import Detection, box_iou
from openpali.metrics.masks import mask_scores, overlap
from openpali.metrics.nextqa import nextqa
from openpali.metrics.scores import Scores, mean, mean_scores
from openpali.metrics.wordnet import WordNet
from openpali.tasks.base import Task
from openpali.tasks.detect import Detect
from openpali.tasks.example import Example
from openpali.tasks.refseg import RefSeg, crop_mask, paste_mask
from openpali.text.tokenizer import Tokenizer


def _texts(rows: Sequence[Answered]) -> list[str]:
    return [row.text for row in rows]


def _references(rows: Sequence[Answered]) -> list[Sequence[str]]:
    return [row.references for row in rows]


def _only(rows: Sequence[Answered]) -> list[str]:
    return [row.references[0] for row in rows]


def captions(rows: Sequence[Answered]) -> Scores:
    """CIDEr, BLEU-1..4, ROUGE-L and exact match."""
    return caption.caption(_texts(rows), _references(rows))


def vqa_accuracy(rows: Sequence[Answered]) -> Scores:
    """VQAv2's and TextVQA's accuracy over ten annotators."""
    return vqa.vqa_accuracy(_texts(rows), _references(rows))


def okvqa_accuracy(rows: Sequence[Answered]) -> Scores:
    """``accuracy`` without clean-up, as big_vision; and ``vqa_accuracy``, which the OKVQA paper prescribes."""
    plain, official = vqa.soft_accuracy(_texts(rows), _references(rows)), vqa_accuracy(rows)
    return Scores(plain.summary | official.summary, plain.per_sample | official.per_sample)


def anls(rows: Sequence[Answered]) -> Scores:
    """ANLS, and exact match without regard to case."""
    similar = vqa.anls(_texts(rows), _references(rows))
    exact = vqa.exact_match(_texts(rows), _references(rows), lower=True)
    return Scores(similar.summary | exact.summary, similar.per_sample | exact.per_sample)


def exact(rows: Sequence[Answered]) -> Scores:
    """Exact match, case and all."""
    return vqa.exact_match(_texts(rows), _references(rows))


def exact_lower(rows: Sequence[Answered]) -> Scores:
    """Exact match without regard to case."""
    return vqa.exact_match(_texts(rows), _references(rows), lower=True)


def counts(rows: Sequence[Answered]) -> Scores:
    """TallyQA's accuracy."""
    return vqa.count_accuracy(_texts(rows), _only(rows))


def relaxed(rows: Sequence[Answered]) -> Scores:
    """ChartQA's relaxed accuracy."""
    return vqa.relaxed_accuracy(_texts(rows), _only(rows))


@cache
def wordnet() -> WordNet:
    """WordNet as `openpali data build wordnet` fetches it.

    Raises:
        FileNotFoundError: it has not been.
    """
    return WordNet(data_folder("wordnet"))


def wups(rows: Sequence[Answered]) -> Scores:
    """NExT-QA's WUPS, by the kind of question too, and exact match."""
    similar = nextqa(_texts(rows), _references(rows), [row.kind for row in rows], wordnet())
    same = exact(rows)
    return Scores(similar.summary | same.summary, similar.per_sample | same.per_sample)


def measure_segmentation(
    example: Example, prediction: Prediction, task: Task, tokenizer: Tokenizer
) -> dict[str, float]:
    """What :func:`segmentation` needs of an answer to an example that refers to one object with a mask.

    Raises:
        ValueError: the model has no mask VQ-VAE.
    """
    assert isinstance(task, RefSeg)
    if task.masks is None:
        raise ValueError("segmentation needs a model with a mask VQ-VAE, and this one has none")
    thing = example.objects[example.referred[0]]
    assert thing.mask is not None
    objects = prediction.answer.objects
    found = objects[0] if objects else None
    mask = np.zeros(example.size, bool) if found is None or found.mask is None else found.mask
    best = paste_mask(
        task.masks.decode(task.masks.encode(crop_mask(thing.mask, thing.box))), thing.box, example.size
    )
    intersection, union = overlap(mask, thing.mask)
    best_intersection, best_union = overlap(best, thing.mask)
    return {
        "intersection": intersection,
        "union": union,
        "box_iou": float(box_iou([found.box], [thing.box])[0, 0]) if found else 0.0,
        "ceiling": best_intersection / best_union if best_union else 1.0,
        "invalid": float(found is None),
    }


def segmentation(rows: Sequence[Answered]) -> Scores:
    """mIoU, oIoU and P@t of masks, box accuracy, and the mIoU that the mask VQ-VAE allows at most (``ceiling``)."""
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


POLICY: Policy = "mean"  # how detections are ranked, see openpali.eval.detection


def measure_detections(
    example: Example, prediction: Prediction, task: Task, tokenizer: Tokenizer
) -> dict[str, object]:
    """What :func:`detections` needs: boxes as lists of name, four edges and confidence, found and true."""
    assert isinstance(task, Detect)
    scored = scored_boxes(prediction.generation, tokenizer, task, example.size, POLICY)
    return {
        "found": [[thing.name, *map(float, thing.box), thing.score] for thing in scored],
        "true": [[thing.name, *map(float, thing.box), 1.0] for thing in example.objects],
    }


def detections(rows: Sequence[Answered]) -> Scores:
    """Mean IoU of each true box with the nearest answer, COCO's AP under a policy of confidence, F1 at IoU 0.5."""
    found, true = (
        [[Detection(name, box, score) for name, *box, score in row.values[side]] for row in rows]
        for side in ("found", "true")
    )
    ious = [
        float(box_iou([thing.box for thing in there], [thing.box for thing in seen]).max(axis=1).mean())
        if seen
        else 0.0
        for seen, there in zip(found, true, strict=True)
    ]
    scores = detection_scores([found], true, [POLICY])
    return Scores({"iou": mean(ious)} | scores.summary, {"iou": ious} | scores.per_sample)


def measure_choices(
    example: Example, prediction: Prediction, task: Task, tokenizer: Tokenizer
) -> dict[str, list[str]]:
    """The choices that a question has (``vocabulary``), for :func:`choices`."""
    return {"choices": list(example.vocabulary)}


def choices(rows: Sequence[Answered]) -> Scores:
    """Exact match; beside it multiple-choice accuracy, which takes the letter of a choice too, and ``unparsed``."""
    options = [row.values["choices"] for row in rows]
    right = [own.index(reference) for own, reference in zip(options, _only(rows), strict=True)]
    same, chosen = exact(rows), vqa.multiple_choice(_texts(rows), options, right)
    named = {"accuracy": "multiple_choice", "unparsed": "unparsed"}
    return Scores(
        same.summary | {named[name]: value for name, value in chosen.summary.items()},
        same.per_sample | {named[name]: values for name, values in chosen.per_sample.items()},
    )


def with_slices(score: Score) -> Score:
    """Over all samples, and over each kind alone as ``NAME/KIND``."""

    @wraps(score)
    def sliced(rows: Sequence[Answered]) -> Scores:
        return _sliced(score, rows, score(rows).summary)

    return sliced


def mean_of_slices(score: Score) -> Score:
    """Over each kind alone as ``NAME/KIND``, and as ``NAME`` the mean over kinds, however many samples each has."""

    @wraps(score)
    def sliced(rows: Sequence[Answered]) -> Scores:
        return _sliced(score, rows, None)

    sliced.__doc__ = f"{(score.__doc__ or '').rstrip('.')}: the mean over kinds of sample."
    return sliced


def _sliced(
    score: Callable[[Sequence[Answered]], Scores], rows: Sequence[Answered], whole: dict[str, float] | None
) -> Scores:
    parts = {kind: [i for i, row in enumerate(rows) if row.kind == kind] for kind in sorted({r.kind for r in rows})}
    scores = {kind: score([rows[i] for i in places]) for kind, places in parts.items()}
    per_sample: dict[str, list[float]] = {}
    for kind, places in parts.items():
        for name, values in scores[kind].per_sample.items():
            column = per_sample.setdefault(name, [0.0] * len(rows))
            for place, value in zip(places, values, strict=True):
                column[place] = value
    if whole is None:
        shared = [n for n in next(iter(scores.values())).summary if all(n in s.summary for s in scores.values())]
        whole = {name: mean([s.summary[name] for s in scores.values()]) for name in shared}
    else:
        per_sample = score(rows).per_sample
    slices = {
        f"{name}/{kind}": value
        for kind, s in scores.items()
        if kind
        for name, value in s.summary.items()
        if "/" not in name
    }
    return Scores(whole | slices, per_sample)
