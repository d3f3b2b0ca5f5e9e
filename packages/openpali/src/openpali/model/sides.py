"""Boxes around points, by the distances of their sides: top, left, bottom, right."""

from __future__ import annotations

import torch
from torch import Tensor


def overlap(one_N4: Tensor, other_N4: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU (arXiv 1902.09630) of boxes around the same points, ``[N]`` each; distances are at
    least 0, and no box is empty."""
    both, either = torch.minimum(one_N4, other_N4), torch.maximum(one_N4, other_N4)
    shared, hull, area, other = (
        (sides[:, 0] + sides[:, 2]) * (sides[:, 1] + sides[:, 3]) for sides in (both, either, one_N4, other_N4)
    )
    union = area + other - shared
    iou = (shared / union).clamp(0, 1)
    return iou, shared / union + union / hull - 1
