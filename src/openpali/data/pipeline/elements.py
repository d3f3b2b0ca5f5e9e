"""Windows -> arrays, for the objective that finds elements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PilImage

from openpali.data.media.images import Preprocess
from openpali.data.pipeline.encode import Arrays, Batch, first_image
from openpali.data.pipeline.pages import random_view, recolour
from openpali.metrics.boxes import box_iou
from openpali.metrics.words import holds_centre
from openpali.model.pages import CELL
from openpali.tasks.base import Task
from openpali.tasks.example import Box, Example, Image, Object, around

ROLES = (
    *("button", "checkbox", "columnheader", "combobox", "heading", "icon", "image", "link", "listbox"),
    *("progressbar", "radio", "slider", "switch", "tab", "textbox"),
)
"""Of elements, as ARIA names them, and icons. A field for a search or a number is a textbox."""
_SAME = {"img": "image", "figure": "image", "searchbox": "textbox", "spinbutton": "textbox"}
_LEAST_SEEN = 0.5  # of an element's area: of the rest nobody knows how far it reaches


def elements_of(example: Example) -> list[Object]:
    """The elements of a window with roles of :data:`ROLES`; an icon is no image, and a heading is where its words
    are."""
    words = [word.box for line in example.lines for word in line.words]
    known = [(_SAME.get(thing.role, thing.role), thing) for thing in example.objects]
    icons = [thing.box for role, thing in known if role == "icon"]
    kept = []
    for role, thing in known:
        small = role == "image" and icons and float(box_iou([thing.box], icons).max()) > 0.5
        if role in ROLES and not small:
            within = [word for word in words if holds_centre(thing.box, word)] if role == "heading" else []
            kept.append(Object(thing.name, around(within) if within else thing.box, role=role))
    return kept


@dataclass(frozen=True)
class ElementEncoder:
    """Random parts of a window at random scales, and where their elements are.

    Batches have ``images [N, H, W, 3]`` uint8, ``which [N, R, h, w]`` int16, and ``boxes [N, M, 4]`` float32, as
    :func:`~openpali.model.elements.element_loss` takes them; the parts of an example stand together.

    Attributes:
        parts: of an example.
        scales: least and most enlargement of a window.
        recoloured: share of parts in other colours.
    """

    roles: Sequence[str] = ROLES
    parts: int = 4
    scales: tuple[float, float] = (0.4, 1.0)
    recoloured: float = 0.25

    def encode(self, example: Example, task: Task, preprocess: Preprocess, rng: np.random.Generator) -> Arrays:
        image, elements = PilImage.fromarray(first_image(example)), elements_of(example)
        size = preprocess.height, preprocess.width
        parts = [self._part(image, elements, *size, rng) for _ in range(self.parts)]
        return {
            "images": np.stack([pixels for pixels, _, _ in parts]),
            "which": np.stack([which for _, which, _ in parts]),
            "boxes": np.stack([boxes for _, _, boxes in parts]),
        }

    def _part(
        self, image: PilImage.Image, elements: Sequence[Object], height: int, width: int, rng: np.random.Generator
    ) -> tuple[Image, NDArray[np.int16], NDArray[np.float32]]:
        view = random_view(image, height, width, self.scales, rng)
        seen = [replace(thing, box=view.box(thing.box)) for thing in elements]
        pixels = view.of(image, height, width)
        if rng.random() < self.recoloured:
            pixels = recolour(pixels, rng)
        return pixels, *mark_elements(seen, self.roles, height, width)

    def collate(self, samples: Sequence[Arrays]) -> Batch:
        most = max(s["boxes"].shape[1] for s in samples)
        boxes = np.zeros((len(samples), self.parts, most, 4), np.float32)
        for row, sample in zip(boxes, samples, strict=True):
            row[:, : sample["boxes"].shape[1]] = sample["boxes"]
        stacked = {key: torch.from_numpy(np.concatenate([s[key] for s in samples])) for key in ("images", "which")}
        return {**stacked, "boxes": torch.from_numpy(boxes).flatten(0, 1)}


def mark_elements(
    elements: Sequence[Object], roles: Sequence[str], height: int, width: int
) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """For each role and cell, the number of the element that is there, from 1 on, or 0; and all boxes.

    Cells of an element that is mostly outside have -1. Where two of a role lie in each other, the smaller has the
    cell.
    """
    which = np.zeros((len(roles), height // CELL, width // CELL), np.int16)
    ordered = sorted(elements, key=lambda each: -_area(each.box))
    for number, thing in enumerate(ordered, 1):
        ymin, xmin, ymax, xmax = thing.box
        seen = Box(max(0, ymin), max(0, xmin), min(height, ymax), min(width, xmax))
        own = which[roles.index(thing.role)]
        if seen.ymax > seen.ymin and seen.xmax > seen.xmin:
            known = _area(seen) >= _LEAST_SEEN * _area(thing.box)
            own[_cells(seen.ymin, seen.ymax), _cells(seen.xmin, seen.xmax)] = number if known else -1
    return which, np.array([thing.box for thing in ordered], np.float32).reshape(-1, 4)


def _cells(first: float, last: float) -> slice:
    """Cells whose centres are in an interval, or the one that its centre is in."""
    start, stop = int(np.ceil(first / CELL - 0.5)), int(np.floor(last / CELL - 0.5)) + 1
    if stop <= start:
        start = int((first + last) / 2 // CELL)
        stop = start + 1
    return slice(start, stop)


def _area(box: Box) -> float:
    return (box.ymax - box.ymin) * (box.xmax - box.xmin)
