"""Finding the elements of a screen, such as buttons and icons."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image as PilImage
from torch import Tensor

from openpali.infer.tiles import cells_of
from openpali.metrics.boxes import box_iou
from openpali.model.elements import ElementFinder
from openpali.model.pages import CELL
from openpali.tasks.example import Box, Image, Object, Size

SCALE = 0.55  # at which a window is seen: a tile then holds most of its elements whole
LEAST = 0.35  # probability of an element that is found
_SAME = 0.5  # IoU from which on two boxes of a role are one element


@torch.inference_mode()
def find_elements(finder: ElementFinder, image: Image, least: float = LEAST) -> list[Object]:
    """The elements of an image ``[H, W, 3]`` uint8: their role is their name; the most probable first."""
    height, width = image.shape[:2]
    small = Size(max(1, round(height * SCALE)), max(1, round(width * SCALE)))
    seen = PilImage.fromarray(image).resize((small.width, small.height), PilImage.Resampling.BILINEAR)
    roles = finder.config.roles

    def say(tiles: Tensor) -> Tensor:
        cells = finder(tiles)
        return torch.cat((cells.logits, cells.sides.flatten(1, 2)), 1)

    said = cells_of(say, np.asarray(seen), Size(*finder.vit.config.image_size))
    logits, sides = said[: len(roles)], said[len(roles) :]
    probability = logits.sigmoid()
    highest = probability == F.max_pool2d(probability[None], 3, 1, 1)[0]
    found: list[Object] = []
    grown = torch.tensor([height / small.height, width / small.width] * 2)
    for number, name in enumerate(roles):
        row, column = (probability[number] >= least).nonzero(as_tuple=True)
        centre = torch.stack((row, column), -1) * CELL + CELL / 2
        own = sides[4 * number : 4 * number + 4, row, column].T  # [n, 4]
        edges = torch.cat((centre - own[:, :2], centre + own[:, 2:]), -1) * grown
        edges = edges.clamp(torch.zeros(4), torch.tensor([height, width] * 2))
        for box, sure in _merge(edges, probability[number, row, column], highest[number, row, column]):
            found.append(Object(name, box, confidence=sure, role=name))
    return sorted(found, key=lambda thing: -(thing.confidence or 0.0))


def _merge(edges_N4: Tensor, sure_N: Tensor, highest_N: Tensor) -> Iterator[tuple[Box, float]]:
    """Boxes that are no other's again, and their probabilities: non-maximum suppression; each is the mean of those
    that it suppresses."""
    left, edges = (edges_N4[:, 2:] > edges_N4[:, :2]).all(1), edges_N4.double().numpy()
    while (left & highest_N).any():
        best = int(torch.where(left & highest_N, sure_N, -1.0).argmax())
        same = left & torch.from_numpy(box_iou(edges[best : best + 1], edges)[0] > _SAME)
        weight = sure_N * same
        yield Box(*(weight @ edges_N4 / weight.sum()).tolist()), float(sure_N[best])
        left &= ~same
