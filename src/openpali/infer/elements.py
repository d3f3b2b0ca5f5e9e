"""Finding the elements of a screen, such as buttons and icons."""

from __future__ import annotations

from collections.abc import Sequence

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
    role, row, column = (highest & (probability >= least)).nonzero(as_tuple=True)
    centre = torch.stack((row, column), -1) * CELL + CELL / 2
    own = sides.reshape(len(roles), 4, *probability.shape[1:])[role, :, row, column]  # [n, 4]
    grown = torch.tensor([height / small.height, width / small.width] * 2)
    edges = torch.cat((centre - own[:, :2], centre + own[:, 2:]), -1) * grown
    edges = edges.clamp(torch.zeros(4), torch.tensor([height, width] * 2))
    sure = probability[role, row, column]
    found: list[Object] = []
    for number, name in enumerate(roles):
        some = (role == number).nonzero()[:, 0]
        some = some[sure[some].argsort(descending=True)]
        boxes = [Box(*edges[i].tolist()) for i in some]
        found += [Object(name, boxes[i], confidence=float(sure[some[i]]), role=name) for i in _apart(boxes)]
    return sorted(found, key=lambda thing: -(thing.confidence or 0.0))


def _apart(boxes: Sequence[Box]) -> list[int]:
    """Boxes that are no other's again: non-maximum suppression; the first are the best."""
    if not boxes:
        return []
    same = box_iou(boxes, boxes) > _SAME
    kept: list[int] = []
    for number, box in enumerate(boxes):
        if box.ymax > box.ymin and box.xmax > box.xmin and not same[number, kept].any():
            kept.append(number)
    return kept
