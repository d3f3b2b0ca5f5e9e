"""Scores of one mask per sample (referring-expression segmentation)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .scores import Scores, mean, mean_scores

PRECISION_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


def overlap(prediction: NDArray[np.bool_], reference: NDArray[np.bool_]) -> tuple[int, int]:
    """Intersection and union of two masks ``[H, W]`` in pixels: all that the scores need of a sample."""
    _check_mask(prediction, "prediction")
    _check_mask(reference, "reference")
    if prediction.shape != reference.shape:
        raise ValueError(
            f"the prediction is {prediction.shape} but the reference {reference.shape}; "
            "resize the prediction to the original"
        )
    return int(np.count_nonzero(prediction & reference)), int(np.count_nonzero(prediction | reference))


def mask_scores(overlaps: Sequence[tuple[int, int]]) -> Scores:
    """mIoU, oIoU and P@0.5 .. P@0.9 of RefCOCO/+/g.

    ``miou`` averages the samples' IoU; ``oiou`` (also called cIoU) divides the summed intersections by the summed
    unions, so that large objects weigh more; the two are often confused, so both are always given. ``p@t`` is the
    share of samples with IoU >= t. Two empty masks agree: IoU 1.

    Args:
        overlaps: of each sample, as :func:`overlap` counts it.

    Returns:
        Summary as above in 0..1; per-sample ``miou`` and ``p@t``.
    """
    if not overlaps:
        raise ValueError("no samples to score: predictions are empty")
    ious = [intersection / union if union else 1.0 for intersection, union in overlaps]
    precisions = {f"p@{t}": [float(iou >= t) for iou in ious] for t in PRECISION_THRESHOLDS}
    total = sum(union for _, union in overlaps)
    summary = {"miou": mean(ious), "oiou": sum(i for i, _ in overlaps) / total if total else 1.0}
    precision = mean_scores(precisions)
    return Scores(summary | precision.summary, {"miou": ious} | precision.per_sample)


def _check_mask(mask: NDArray[np.bool_], what: str) -> None:
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"the {what} must be a bool array [H, W], got {mask.dtype} {mask.shape}")
