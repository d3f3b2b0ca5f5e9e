"""Finding the elements of a screen, such as buttons and icons."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from openpali.metrics.boxes import distinct
from openpali.model.layers import device_of
from openpali.tasks.example import Box, Image, Object
from openpali_screen.elements.network import ElementFinder
from openpali_screen.elements.proposals import propose, views

LEAST = 0.55  # probability of an element that is found: F1 is highest so, on the development windows
DOUBTFUL = 0.1  # least probability that counts for how many elements there are; chosen there, too
_SAME = 0.4  # IoU from which on two boxes are one element


@torch.inference_mode()
def find_elements(finder: ElementFinder, image: Image, lines: Sequence[Box], least: float = LEAST) -> list[Object]:
    """The elements of an image ``[H, W, 3]`` uint8 with these lines of text: their role is their name; the most
    probable first. Of two with one box the more probable is found; an icon may fill another element."""
    boxes, kinds = propose(image, lines)
    if not len(boxes):
        return []
    device, size = device_of(finder), torch.tensor(image.shape[:2], dtype=torch.float)
    seen = torch.from_numpy(views(image, boxes, finder.config.side)).to(device)
    places, kind = torch.from_numpy(boxes).to(device), torch.from_numpy(kinds).to(device)
    outputs = finder(seen, kind, places, torch.tensor([len(boxes)], device=device), size[None].to(device))
    probability = outputs.logits.sigmoid().cpu()
    edges = outputs.boxes(places).cpu().clamp(torch.zeros(4), size.repeat(2))
    found = [
        Object(name, Box(*box), confidence=confidence, role=name)
        for number, name in enumerate(finder.config.roles)
        for box, confidence in zip(edges[:, number].tolist(), probability[:, number].tolist(), strict=True)
        if confidence >= least and box[2] > box[0] and box[3] > box[1]
    ]
    found.sort(key=confidence_of, reverse=True)
    icons, others = ([thing for thing in found if thing.is_icon is own] for own in (True, False))
    kept = [some[i] for some in (icons, others) for i in distinct([thing.box for thing in some], _SAME)]
    return sorted(kept, key=confidence_of, reverse=True)


def confidence_of(thing: Object) -> float:
    return thing.confidence or 0.0
