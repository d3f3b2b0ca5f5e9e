"""The finder of elements: shapes, and its loss beside perfect answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from openpali.data.pipeline.elements import ROLES, mark_elements
from openpali.model.elements import ElementCells, ElementFinder, ElementFinderConfig, element_loss
from openpali.model.init import materialise
from openpali.model.pages import CELL
from openpali.model.vit import ViTConfig
from openpali.tasks.example import Box, Object

SIZE = 64, 128
ELEMENTS = [
    Object("button", Box(8, 10, 40, 90), role="button"),
    Object("icon", Box(16, 20, 30, 34), role="icon"),
    Object("icon", Box(50, 100, 62, 112), role="icon"),
]


def truth() -> tuple[Tensor, Tensor]:
    which, boxes = mark_elements(ELEMENTS, ROLES, *SIZE)
    return torch.from_numpy(which)[None], torch.from_numpy(boxes)[None]


def perfect(which: Tensor, boxes: Tensor, moved: float = 0.0) -> ElementCells:
    rows, columns = (torch.arange(side // CELL) * CELL + CELL / 2 for side in SIZE)
    number = which.long() - 1
    edges = boxes[0][number.clamp(min=0)]  # [1, R, h, w, 4]
    centre = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1)
    sides = torch.cat((centre - edges[..., :2], edges[..., 2:] - centre - moved), -1)
    return ElementCells(torch.where(which != 0, 12.0, -12.0), sides.permute(0, 1, 4, 2, 3))


def test_it_says_something_of_every_role_and_cell() -> None:
    torch.manual_seed(0)
    with torch.device("meta"):
        finder = ElementFinder(ElementFinderConfig(ViTConfig(16, (4, 8), 32, 1, 64, 2), ROLES))
    materialise(finder)
    cells = finder(torch.randint(0, 256, (2, *SIZE, 3), dtype=torch.uint8))
    assert cells.logits.shape == (2, len(ROLES), 16, 32)
    assert cells.sides.shape == (2, len(ROLES), 4, 16, 32)
    assert torch.all(cells.sides > 0)
    assert cells.logits.sigmoid().mean() < 0.1  # most cells hold no element


def test_the_cells_of_elements_are_marked() -> None:
    which, boxes = truth()
    marked = [number for number in which.unique().tolist() if number > 0]
    assert marked == [1, 2, 3]
    for number in marked:
        role, rows, columns = (which[0] == number).nonzero().T
        box = boxes[0, number - 1]
        assert ROLES[int(role[0])] in ("button", "icon")
        assert torch.all((rows * CELL + CELL > box[0]) & (rows * CELL < box[2]))
        assert torch.all((columns * CELL + CELL > box[1]) & (columns * CELL < box[3]))


def test_an_element_that_is_mostly_outside_is_left_open() -> None:
    which, _ = mark_elements([Object("link", Box(10, -90, 30, 20), role="link")], ROLES, *SIZE)
    assert set(np.unique(which).tolist()) == {0, -1}


def test_a_perfect_answer_has_no_loss_and_a_worse_one_has() -> None:
    which, boxes = truth()
    assert element_loss(perfect(which, boxes), which, boxes).item() == pytest.approx(0, abs=1e-3)
    assert element_loss(perfect(which, boxes, moved=2), which, boxes).item() > 0.05
    missed = perfect(which, boxes)
    assert element_loss(missed._replace(logits=-missed.logits.abs()), which, boxes).item() > 1


def test_an_image_without_elements_has_a_finite_loss() -> None:
    which, boxes = torch.zeros(2, len(ROLES), 16, 32, dtype=torch.int16), torch.zeros(2, 1, 4)
    cells = ElementCells(torch.full(which.shape, -3.0), torch.ones(2, len(ROLES), 4, 16, 32))
    assert torch.all(element_loss(cells, which, boxes).isfinite())
