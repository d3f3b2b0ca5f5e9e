"""Finding the elements of a screen, such as buttons and icons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from openpali.data.pipeline.proposals import propose, views
from openpali.metrics.boxes import box_iou
from openpali.model.elements import ElementFinder
from openpali.tasks.example import Box, Image, Object

LEAST = 0.45  # probability of an element that is found
_SAME = 0.4  # IoU from which on two boxes of a role are one element


@torch.inference_mode()
def find_elements(finder: ElementFinder, image: Image, lines: Sequence[Box], least: float = LEAST) -> list[Object]:
    """The elements of an image ``[H, W, 3]`` uint8 with these lines of text: their role is their name; the most
    probable first."""
    boxes, kinds = propose(image, lines)
    if not len(boxes):
        return []
    places = torch.from_numpy(boxes)
    size = torch.tensor(image.shape[:2], dtype=torch.float)
    said = finder(
        torch.from_numpy(views(image, boxes, finder.config.side)),
        torch.from_numpy(kinds),
        places,
        torch.tensor([len(boxes)]),
        size[None],
    )
    probability = said.logits.sigmoid().cpu()
    edges = said.boxes(places.to(said.sides.device)).cpu().clamp(torch.zeros(4), size.repeat(2))
    found: list[Object] = []
    for number, name in enumerate(finder.config.roles):
        [here] = (probability[:, number] >= least).nonzero(as_tuple=True)
        for box, sure in _distinct(edges[here, number], probability[here, number]):
            found.append(Object(name, box, confidence=sure, role=name))
    return sorted(found, key=lambda thing: -(thing.confidence or 0.0))


def _distinct(edges_N4: Tensor, sure_N: Tensor) -> Iterator[tuple[Box, float]]:
    """Boxes that are no other's again, and their probabilities: non-maximum suppression."""
    left = (edges_N4[:, 2:] > edges_N4[:, :2]).all(1)
    edges = edges_N4.double().numpy()
    while left.any():
        best = int(torch.where(left, sure_N, -1.0).argmax())
        yield Box(*edges[best].tolist()), float(sure_N[best])
        left &= ~torch.from_numpy(box_iou(edges[best : best + 1], edges)[0] > _SAME)
        left[best] = False
