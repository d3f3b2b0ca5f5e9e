"""Naming the icons of an image, given their boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image as PilImage
from torch import Tensor

from openpali.infer.batches import chunked
from openpali.model.layers import device_of
from openpali.tasks.example import Box, Image
from openpali_screen.icons.network import IconClassifier
from openpali_screen.views import View

_BATCH = 64
_ROOM = 0.05  # around a box, in sizes of it


def name_icons(model: IconClassifier, image: Image, boxes: Sequence[Box]) -> list[tuple[str, float]]:
    """The most probable name of the icon in each box of an image ``[H, W, 3]`` uint8, and its probability (not
    calibrated)."""
    best = icon_probabilities(model, image, boxes).max(1)
    return [(model.labels[i], p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]


@torch.inference_mode()
def icon_probabilities(model: IconClassifier, image: Image, boxes: Sequence[Box]) -> Tensor:
    """Probability of each of the model's labels for the icon in each box: float ``[boxes, labels]``.

    Raises:
        ValueError: a box has no area.
    """
    for box in boxes:
        if not (box.height > 0 and box.width > 0):
            raise ValueError(f"{box} has no area: give boxes as (ymin, xmin, ymax, xmax) with minima below maxima")
    page, (side, _) = PilImage.fromarray(image), model.vit.config.image_size
    found = [torch.zeros(0, len(model.labels))]
    for some in chunked(boxes, _BATCH):
        crops = torch.from_numpy(np.stack([_crop(page, box, side) for box in some]))
        found.append(model(crops.to(device_of(model))).float().softmax(1).cpu())
    return torch.cat(found)


def _crop(page: PilImage.Image, box: Box, side: int) -> Image:
    """The square around a box, ``[side, side, 3]``."""
    size = max(box.height, box.width) * (1 + 2 * _ROOM)
    top, left = ((first + last - size) / 2 for first, last in ((box.ymin, box.ymax), (box.xmin, box.xmax)))
    pixels = max(1, round(size))
    seen = View(top, left, pixels / size, pixels / size).of(page, pixels, pixels)
    return np.asarray(PilImage.fromarray(seen).resize((side, side), PilImage.Resampling.BILINEAR))
