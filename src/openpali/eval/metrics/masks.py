"""Scores of one mask per sample (referring-expression segmentation)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .scores import Scores, check_paired, mean, mean_scores

PRECISION_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


def masks(predictions: Sequence[NDArray[np.bool_]], references: Sequence[NDArray[np.bool_]]) -> Scores:
    """mIoU, oIoU and P@0.5 .. P@0.9 of RefCOCO/+/g.

    ``miou`` averages the samples' IoU; ``oiou`` (also called cIoU) divides the summed intersections by the summed
    unions, so that large objects weigh more; the two are often confused, so both are always given. ``p@t`` is the
    share of samples with IoU >= t. Two empty masks agree: IoU 1.

    Args:
        predictions: bool [H, W] per sample.
        references: bool [H, W] per sample, the same size as its prediction.

    Returns:
        Summary as above in 0..1; per-sample ``miou`` and ``p@t``.

    Raises:
        ValueError: on unequal lengths, no samples, unequal sizes, or arrays that are not bool [H, W].
    """
    check_paired(predictions, references)
    intersections, unions = [], []
    for index, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
        _check_mask(prediction, index, "prediction")
        _check_mask(reference, index, "reference")
        if prediction.shape != reference.shape:
            raise ValueError(
                f"sample {index}: prediction is {prediction.shape} but reference {reference.shape}; "
                "resize the prediction to the original"
            )
        intersections.append(int(np.count_nonzero(prediction & reference)))
        unions.append(int(np.count_nonzero(prediction | reference)))
    ious = [i / u if u else 1.0 for i, u in zip(intersections, unions, strict=True)]
    precisions = {f"p@{t}": [float(iou >= t) for iou in ious] for t in PRECISION_THRESHOLDS}
    total = sum(unions)
    summary = {"miou": mean(ious), "oiou": sum(intersections) / total if total else 1.0}
    precision = mean_scores(precisions)
    return Scores(summary | precision.summary, {"miou": ious} | precision.per_sample)


def _check_mask(mask: NDArray[np.bool_], index: int, what: str) -> None:
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"sample {index}: {what} must be a bool array [H, W], got {mask.dtype} {mask.shape}")
