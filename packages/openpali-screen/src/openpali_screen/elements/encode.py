"""Windows -> arrays, for the objective that finds elements."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from openpali.data.media.native import AnyPreprocess
from openpali.data.pipeline.encode import Arrays, Batch, first_image
from openpali.metrics.boxes import box_iou
from openpali.metrics.words import holds_centre
from openpali.tasks.base import require
from openpali.tasks.example import Box, Example, Image, Object, around, tight_box
from openpali_screen.elements.proposals import propose, shares, views
from openpali_screen.views import recolour

ROLES = (
    *("button", "checkbox", "columnheader", "combobox", "heading", "icon", "image", "link", "listbox"),
    *("progressbar", "radio", "slider", "switch", "tab", "textbox"),
)
"""Roles of elements: ARIA's names, and "icon". Fields for searches and numbers count as textboxes."""
_ROLE = {"img": "image", "figure": "image", "searchbox": "textbox", "spinbutton": "textbox"}
_WITHIN = 0.7  # a proposal belongs to an element that holds this share of its area
_SAME_BOX = 0.5  # a proposal with this IoU is the element
_ZOOM = 1.35  # by which screens are enlarged or reduced at most
_MOVED = 0.1  # deviation of the sides of lines, in their heights: a finder places them so
_SHIFT = 0.06  # by which what is on a screen is moved at most, in its sizes
_MISSED = 0.03  # share of lines that are left out
_DROPPED = 0.1  # share of proposals that are left out
_SPLIT = 0.06  # share of lines of several words that are two
_TAKEN = 0.1  # share of icons that are taken for lines of text
_INK = 32  # of 255: least difference of what is drawn from the ground, or half of the largest where that is less
_AROUND = 2  # pixels around an icon by which its ground is known
_READ = 0.7  # share of text without truth that is found
_HIGHEST = 48.0  # pixels of such text
_BEND = 2.0  # of the tones of a screen in other colours


def elements_of(example: Example) -> list[Object]:
    """The elements of a window with roles of :data:`ROLES`. An icon is no image. Icons and headings are where they
    are drawn: their boxes in the layout may be wider than that."""
    words = [word.box for line in example.lines for word in line.words]
    known = [(_ROLE.get(thing.role, thing.role), thing) for thing in example.objects]
    icons = [thing.box for _, thing in known if thing.is_icon]
    kept = []
    for role, thing in known:
        small = role == "image" and icons and float(box_iou([thing.box], icons).max()) > 0.5
        if role in ROLES and not small:
            within = [word for word in words if holds_centre(thing.box, word)] if role == "heading" else []
            box = _drawn(first_image(example), thing.box) if thing.is_icon else thing.box
            kept.append(Object(thing.name, around(within) if within else box, role=role))
    return kept


def _drawn(image: Image, box: Box) -> Box:
    """The tight box around pixels that differ from the background, without parts of neighbours; the box itself if
    there are none."""
    from scipy import ndimage  # takes half a second to import

    top, left = (max(0, math.floor(edge)) for edge in box[:2])
    bottom, right = (math.ceil(edge) for edge in box[2:])
    y, x = max(0, top - _AROUND), max(0, left - _AROUND)
    near = image[y : bottom + _AROUND, x : right + _AROUND].astype(np.int16)
    within = np.zeros(near.shape[:2], bool)
    within[top - y : bottom - y, left - x : right - x] = True
    if within.all():
        return box
    ground = np.median(near[~within], 0)
    differences = np.abs(near - ground).max(-1)
    shapes, _ = ndimage.label(differences > min(_INK, differences[within].max(initial=0) / 2), np.ones((3, 3)))
    pixels, inner = np.bincount(shapes.ravel()), np.bincount(shapes[within], minlength=shapes.max() + 1)
    ink = within & (2 * inner > pixels)[shapes] & (shapes > 0)
    return Box(*np.add(tight_box(ink), (y, x, y, x)).tolist()) if ink.any() else box


@dataclass(frozen=True)
class ElementEncoder:
    """The proposals of a window, with lines of text as a finder would place them, and which elements they are in.

    Batches have, for T proposals of B windows with M elements, ``counts [B]``, proposals of each, ``sizes [B, 2]``,
    ``views [T, 6, S, S, 3]`` uint8, ``kinds [T]``, ``boxes [T, 4]``, ``which [T, R]`` and ``elements [M, 4]``, as
    :func:`~openpali_screen.elements.network.element_loss` takes them.

    Attributes:
        side: of views in pixels.
        recoloured: share of windows in other colours.
    """

    side: int
    roles: Sequence[str] = ROLES
    recoloured: float = 0.4

    def encode(self, example: Example, task: None, preprocess: AnyPreprocess, rng: np.random.Generator) -> Arrays:
        image, things = first_image(example), elements_of(example)
        boxes, kinds = propose(image, [*_found_lines(example, things, rng)])
        kept = rng.random(len(boxes)) > _DROPPED
        boxes, kinds = boxes[kept], kinds[kept]
        if not len(boxes):
            raise ValueError(f"{example.key}: nothing on the screen looks like an element")
        seen = views(image, boxes, self.side)
        if rng.random() < self.recoloured:
            seen = recolour(seen, rng, _BEND)
        which, elements = mark_elements(things, self.roles, boxes)
        zoom = np.float32(_ZOOM ** rng.uniform(-1, 1))
        size = zoom * np.array(image.shape[:2], np.float32)
        moved = np.tile(size * rng.uniform(-_SHIFT, _SHIFT, 2).astype(np.float32), 2)
        return {
            "views": seen,
            "kinds": kinds,
            "boxes": zoom * boxes + moved,
            "sizes": size,
            "which": which,
            "elements": zoom * elements + moved,
        }

    def collate(self, samples: Sequence[Arrays]) -> Batch:
        before = np.cumsum([0, *(len(s["elements"]) for s in samples[:-1])])
        which = [np.where(s["which"] > 0, s["which"] + n, 0) for s, n in zip(samples, before, strict=True)]
        return {
            "counts": torch.tensor([len(s["boxes"]) for s in samples]),
            "sizes": torch.from_numpy(np.stack([s["sizes"] for s in samples])),
            "which": torch.from_numpy(np.concatenate(which)),
            **{
                key: torch.from_numpy(np.concatenate([s[key] for s in samples]))
                for key in ("views", "kinds", "boxes", "elements")
            },
        }


def mark_elements(
    elements: Sequence[Object], roles: Sequence[str], boxes: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each box ``[P, 4]`` and role, the number of the element that the box is or is in, from 1 on, or 0.

    Where it is in two of a role, that of the smaller.

    Returns:
        The numbers ``[P, R]``, and the boxes of all elements ``[M, 4]``.
    """
    true = np.array([thing.box for thing in elements], np.float32).reshape(-1, 4)
    which = np.zeros((len(boxes), len(roles)), np.int64)
    own = (shares(boxes, true) >= _WITHIN) | (box_iou(boxes, true) > _SAME_BOX)  # [P, M]
    for number in np.argsort(-(true[:, 2:] - true[:, :2]).prod(1), kind="stable"):
        which[own[:, number], roles.index(elements[number].role)] = number + 1
    return which, true


def _found_lines(example: Example, things: Sequence[Object], rng: np.random.Generator) -> Iterator[Box]:
    """Lines as a finder would find them: some in two parts, some icons among them, and text without truth."""
    for line in require(example.lines, example, "lines"):
        if rng.random() > _MISSED:
            cut = int(rng.integers(1, len(line.words))) if len(line.words) > 1 and rng.random() < _SPLIT else 0
            for words in (line.words[:cut], line.words[cut:]):
                if words:
                    yield _moved(around(word.box for word in words), rng)
    known = [thing.box for thing in things]
    for box in example.ignored:
        field = known and float(box_iou([box], known).max()) > _SAME_BOX
        if box.height <= _HIGHEST and not field and rng.random() < _READ:
            yield _moved(box, rng)
    for thing in things:
        if thing.is_icon and rng.random() < _TAKEN:
            yield _moved(thing.box, rng)


def _moved(box: Box, rng: np.random.Generator) -> Box:
    moves = rng.normal(0, _MOVED * box.height, 4)
    moved = Box(*(np.array(box) + moves).tolist())
    return moved if moved.ymin + 2 < moved.ymax and moved.xmin + 2 < moved.xmax else box
