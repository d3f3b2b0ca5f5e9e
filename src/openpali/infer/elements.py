"""Finding the elements of a screen, such as buttons and icons."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from openpali.data.pipeline.proposals import propose, views
from openpali.metrics.boxes import distinct
from openpali.model.elements import ElementFinder
from openpali.model.layers import device_of
from openpali.tasks.example import Box, Image, Object

LEAST = 0.5  # probability of an element that is found
_SAME = 0.4  # IoU from which on two boxes of a role are one element


@torch.inference_mode()
def find_elements(finder: ElementFinder, image: Image, lines: Sequence[Box], least: float = LEAST) -> list[Object]:
    """The elements of an image ``[H, W, 3]`` uint8 with these lines of text: their role is their name; the most
    probable first."""
    boxes, kinds = propose(image, lines)
    if not len(boxes):
        return []
    device, size = device_of(finder), torch.tensor(image.shape[:2], dtype=torch.float)
    seen = torch.from_numpy(views(image, boxes, finder.config.side)).to(device)
    places, kind = torch.from_numpy(boxes).to(device), torch.from_numpy(kinds).to(device)
    said = finder(seen, kind, places, torch.tensor([len(boxes)], device=device), size[None].to(device))
    probability = said.logits.sigmoid().cpu()
    edges = said.boxes(places).cpu().clamp(torch.zeros(4), size.repeat(2))
    found: list[Object] = []
    for number, name in enumerate(finder.config.roles):
        [here] = (probability[:, number] >= least).nonzero(as_tuple=True)
        here = here[probability[here, number].argsort(descending=True, stable=True)]
        here = here[(edges[here, number, 2:] > edges[here, number, :2]).all(1)]
        for proposal in here[distinct(edges[here, number].numpy(), _SAME)].tolist():
            box, sure = Box(*edges[proposal, number].tolist()), float(probability[proposal, number])
            found.append(Object(name, box, confidence=sure, role=name))
    return sorted(found, key=lambda thing: -(thing.confidence or 0.0))
