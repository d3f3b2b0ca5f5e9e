"""Naming the icons of an image, given their boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image as PilImage

from openpali_screen.geometry import Box, Image, chunked
from openpali_screen.networks import Floats, IconNetwork
from openpali_screen.views import View

_BATCH = 64
_ROOM = 0.05  # around a box, in sizes of it


def name_icons(network: IconNetwork, image: Image, boxes: Sequence[Box]) -> list[tuple[str, float]]:
    """The most probable name of the icon in each box of an image ``[H, W, 3]`` uint8, and its probability (not
    calibrated)."""
    probabilities = icon_probabilities(network, image, boxes)
    return [(network.labels[i], float(row[i])) for row in probabilities for i in [int(row.argmax())]]


def icon_probabilities(network: IconNetwork, image: Image, boxes: Sequence[Box]) -> Floats:
    """Probability of each of the labels for the icon in each box: ``[boxes, labels]``.

    Raises:
        ValueError: a box has no area.
    """
    for box in boxes:
        if not (box.height > 0 and box.width > 0):
            raise ValueError(f"{box} has no area: give boxes as (ymin, xmin, ymax, xmax) with minima below maxima")
    page, found = PilImage.fromarray(image), [np.zeros((0, len(network.labels)), np.float32)]
    for some in chunked(boxes, _BATCH):
        found.append(network.run(np.stack([_crop(page, box, network.side) for box in some])))
    return np.concatenate(found)


def _crop(page: PilImage.Image, box: Box, side: int) -> Image:
    """The square around a box, ``[side, side, 3]``."""
    size = max(box.height, box.width) * (1 + 2 * _ROOM)
    top, left = ((first + last - size) / 2 for first, last in ((box.ymin, box.ymax), (box.xmin, box.xmax)))
    pixels = max(1, round(size))
    seen = View(top, left, pixels / size, pixels / size).of(page, pixels, pixels)
    return np.asarray(PilImage.fromarray(seen).resize((side, side), PilImage.Resampling.BILINEAR))
