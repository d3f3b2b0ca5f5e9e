"""Boxes: overlap, score-free F1 and COCO average precision.

Boxes are (ymin, xmin, ymax, xmax) with exclusive far edges, in pixels of the original image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .scores import Scores, check_paired

Floats = NDArray[np.float64]
Boxes = Sequence[Sequence[float]] | NDArray[np.floating[Any]]


class Detection(NamedTuple):
    """A named box; ``score`` is a confidence on any scale (higher ranks first), ignored in references."""

    name: str
    box: Sequence[float]
    score: float = 1.0


def box_overlap(a: Boxes, b: Boxes) -> Floats:
    """Area that each box of ``a`` [N, 4] shares with each of ``b`` [M, 4]: float64 [N, M]."""
    first, second = _boxes(a), _boxes(b)
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return np.asarray(np.clip(high - low, 0, None).prod(axis=2))


def box_iou(a: Boxes, b: Boxes) -> Floats:
    """Intersection over union of each box of ``a`` [N, 4] with each of ``b`` [M, 4]: float64 [N, M] in 0..1.

    Two boxes without area have IoU 0.
    """
    overlap = box_overlap(a, b)
    union = _area(_boxes(a))[:, None] + _area(_boxes(b))[None, :] - overlap
    return np.asarray(np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0))


def distinct(boxes: Boxes, most: float) -> NDArray[np.int64]:
    """Non-maximum suppression of boxes [N, 4], the best first.

    Returns:
        Indices of the boxes to keep, in their order: none has an IoU above ``most`` with one before it.
    """
    same = box_iou(boxes, boxes) > most
    left, kept = np.ones(len(boxes), bool), []
    for number in range(len(boxes)):
        if left[number]:
            kept.append(number)
            left &= ~same[number]
    return np.array(kept, np.int64)


def _boxes(boxes: Boxes) -> Floats:
    if not len(boxes):
        return np.zeros((0, 4))
    array = np.asarray(boxes, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 4 or not np.isfinite(array).all():
        raise ValueError(f"boxes must be four finite numbers each (ymin, xmin, ymax, xmax), got {boxes}")
    if (array[:, :2] > array[:, 2:]).any():
        raise ValueError(f"boxes must have ymin <= ymax and xmin <= xmax, got {boxes}")
    return array


def _area(boxes: Floats) -> Floats:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))


def detection_f1(
    predictions: Sequence[Sequence[Detection]],
    references: Sequence[Sequence[Detection]],
    *,
    threshold: float = 0.5,
) -> Scores:
    """F1 of the sets of boxes of each image; their scores are ignored.

    A prediction may be paired with a reference of the same name at IoU >= ``threshold``, one to one. The number of
    true positives is the size of a maximum bipartite matching, so it does not depend on the order of the boxes.

    Returns:
        ``f1@t``, ``precision@t`` and ``recall@t`` in 0..1 over all boxes of all images (micro average);
        per-sample ``f1@t``. Without boxes on either side, F1 is 1. Precision without predictions is 0, and so is
        recall without references.
    """
    check_paired(predictions, references)
    found = [_most_pairs(p, r, threshold) for p, r in zip(predictions, references, strict=True)]
    per_sample = [f1(n, len(p), len(r)) for n, p, r in zip(found, predictions, references, strict=True)]
    hits, predicted, true = sum(found), sum(map(len, predictions)), sum(map(len, references))
    agree = float(predicted == true == 0)
    counts = [(2.0 * n, float(len(p) + len(r))) for n, p, r in zip(found, predictions, references, strict=True)]
    return Scores(
        {
            f"f1@{threshold}": f1(hits, predicted, true),
            f"precision@{threshold}": hits / predicted if predicted else agree,
            f"recall@{threshold}": hits / true if true else agree,
        },
        {f"f1@{threshold}": per_sample},
        {f"f1@{threshold}": counts},
    )


def f1(hits: int, predicted: int, true: int) -> float:
    """F1 from counts; 1 if there is nothing on either side."""
    return 2 * hits / (predicted + true) if predicted + true else 1.0


def _most_pairs(predictions: Sequence[Detection], references: Sequence[Detection], threshold: float) -> int:
    """Size of the largest one-to-one pairing of boxes with one name and this IoU or more."""
    from scipy.sparse import csr_array  # takes a while to import
    from scipy.sparse.csgraph import maximum_bipartite_matching

    ious = box_iou([p.box for p in predictions], [r.box for r in references])
    alike = np.array([[p.name == r.name for r in references] for p in predictions], bool).reshape(ious.shape)
    return int((maximum_bipartite_matching(csr_array(alike & (ious >= threshold)), "column") >= 0).sum())


IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_POINTS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = 100  # per image and name


def average_precision(
    predictions: Sequence[Sequence[Detection]], references: Sequence[Sequence[Detection]]
) -> Scores:
    """COCO average precision of scored boxes per image, equal to pycocotools ``COCOeval`` (all areas, no crowds).

    Returns:
        ``ap`` (mean over IoU 0.5:0.05:0.95), ``ap50``, ``ap75`` and ``ar100``, in 0..1, averaged over the names
        that occur in the references. There are no per-sample values. Equal scores rank in the order of the samples.
    """
    check_paired(predictions, references)
    names = sorted({r.name for sample in references for r in sample})
    if not names:
        raise ValueError("average precision needs at least one reference box, and the references have none")
    if not np.isfinite([p.score for sample in predictions for p in sample]).all():
        raise ValueError("detections have scores that are not finite")
    curves = [_precision_recall(name, predictions, references) for name in names]
    precision = np.stack([curve.mean(axis=1) for curve, _ in curves])  # [names, thresholds]
    recall = np.stack([last for _, last in curves])
    return Scores(
        {
            "ap": float(precision.mean()),
            "ap50": float(precision[:, 0].mean()),
            "ap75": float(precision[:, 5].mean()),
            "ar100": float(recall.mean()),
        }
    )


def right_boxes(predictions: Sequence[Detection], references: Sequence[Detection]) -> list[bool]:
    """Whether each detection of an image is right at an IoU of 0.5, by COCO's matching within each name."""
    right = [False] * len(predictions)
    for name in {p.name for p in predictions}:
        order = sorted(
            (i for i, p in enumerate(predictions) if p.name == name), key=lambda i: -predictions[i].score
        )
        ious = box_iou([predictions[i].box for i in order], [r.box for r in references if r.name == name])
        for i, hit in zip(order, _greedy_hits(ious)[0].tolist(), strict=True):
            right[i] = hit
    return right


def _precision_recall(
    name: str, predictions: Sequence[Sequence[Detection]], references: Sequence[Sequence[Detection]]
) -> tuple[Floats, Floats]:
    """Interpolated precision [thresholds, recall points] and final recall [thresholds] of one name."""
    scores: list[float] = []
    hits: list[NDArray[np.bool_]] = []
    true = 0
    for sample, truth in zip(predictions, references, strict=True):
        kept = sorted((p for p in sample if p.name == name), key=lambda p: -p.score)[:MAX_DETECTIONS]
        boxes = [r.box for r in truth if r.name == name]
        true += len(boxes)
        scores += [p.score for p in kept]
        hits.append(_greedy_hits(box_iou([p.box for p in kept], boxes)))
    order = np.argsort(-np.asarray(scores), kind="stable")
    ranked = np.concatenate(hits, axis=1)[:, order]  # [thresholds, detections]
    positives = ranked.cumsum(axis=1)
    recall = positives / true
    # Precision at a recall is the best precision at that recall or beyond.
    precision = positives / np.arange(1, ranked.shape[1] + 1)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    curve = np.zeros((len(IOU_THRESHOLDS), len(RECALL_POINTS)))
    for t in range(len(IOU_THRESHOLDS)):
        first = np.searchsorted(recall[t], RECALL_POINTS, side="left")
        reached = first < ranked.shape[1]
        curve[t, reached] = precision[t, first[reached]]
    final = recall[:, -1] if ranked.shape[1] else np.zeros(len(IOU_THRESHOLDS))
    return curve, final


def _greedy_hits(ious: Floats) -> NDArray[np.bool_]:
    """COCO's matching: each detection, by falling score, takes the free reference that it overlaps most.

    [detections, references] -> bool [thresholds, detections].
    """
    hits = np.zeros((len(IOU_THRESHOLDS), len(ious)), dtype=np.bool_)
    if not ious.shape[1]:
        return hits
    for t, threshold in enumerate(IOU_THRESHOLDS):
        free = np.ones(ious.shape[1], dtype=np.bool_)
        for d, row in enumerate(ious):
            open_ious = np.where(free, row, -1.0)
            # COCO takes the last of equal overlaps.
            best = len(row) - 1 - int(np.argmax(open_ious[::-1]))
            if open_ious[best] >= min(threshold, 1 - 1e-10):
                free[best] = False
                hits[t, d] = True
    return hits
