"""Finding the elements of a screen, such as buttons and icons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from openpali_screen.elements.proposals import propose, views
from openpali_screen.geometry import Box, Image, distinct
from openpali_screen.networks import ElementNetwork

LEAST = 0.55  # probability of an element that is found: F1 is highest so, on the development windows
DOUBTFUL = 0.1  # least probability that counts for how many elements there are; chosen there, too
_SAME = 0.4  # IoU from which on two boxes are one element


@dataclass(frozen=True)
class Element:
    """An element of a screen, or words on it that were asked for.

    Attributes:
        role: as ARIA names it ("button", "textbox"), or "icon"; "" of words.
        box: in pixels of the screen.
        confidence: that it is there, in 0..1.
        name: of an icon what it shows; else what is written on it, or its role.
        label: what is written on it or beside it, or what its icons show.
    """

    role: str
    box: Box
    confidence: float
    name: str = ""
    label: str = ""

    @property
    def is_icon(self) -> bool:
        """Whether it is an icon, which may lie in another element."""
        return self.role == "icon"


def find_elements(
    finder: ElementNetwork, image: Image, lines: Sequence[Sequence[float]], least: float = LEAST
) -> list[Element]:
    """The elements of an image ``[H, W, 3]`` uint8 with these lines of text: their role is their name; the most
    probable first. Of two with one box the more probable is found; an icon may fill another element."""
    boxes, kinds = propose(image, lines)
    if not len(boxes):
        return []
    size = np.array([image.shape[:2]], np.float32)
    probability, sides = finder.run(views(image, boxes, finder.side), kinds, boxes, size)
    centre = (boxes[:, :2] + boxes[:, 2:])[:, None] / 2
    edges = np.concatenate((centre - sides[..., :2], centre + sides[..., 2:]), -1).clip(0, np.tile(size, 2))
    found = [
        Element(role, Box(*edges[i, number].tolist()), float(probability[i, number]), role)
        for number, role in enumerate(finder.roles)
        for i in np.flatnonzero(probability[:, number] >= least)
        if (edges[i, number, 2:] > edges[i, number, :2]).all()
    ]
    found.sort(key=confidence_of, reverse=True)
    icons, others = ([thing for thing in found if thing.is_icon is own] for own in (True, False))
    kept = [some[i] for some in (icons, others) for i in distinct([thing.box for thing in some], _SAME)]
    return sorted(kept, key=confidence_of, reverse=True)


confidence_of = attrgetter("confidence")
