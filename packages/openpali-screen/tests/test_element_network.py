"""The finder of elements: shapes, padding, and its loss beside perfect answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from openpali.model.init import materialise
from openpali.tasks.example import Box, Object
from openpali_screen.elements.encode import ROLES, mark_elements
from openpali_screen.elements.network import VIEWS, ElementFinder, ElementFinderConfig, Found, element_loss

ELEMENTS = [
    Object("button", Box(8, 10, 40, 90), role="button"),
    Object("icon", Box(16, 20, 30, 34), role="icon"),
    Object("icon", Box(50, 100, 62, 112), role="icon"),
]
BOXES = torch.tensor([[8.0, 10, 40, 90], [17, 21, 29, 33], [50, 100, 62, 111], [20, 40, 30, 80], [90, 5, 99, 60]])


@pytest.fixture(scope="module")
def finder() -> ElementFinder:
    torch.manual_seed(0)
    with torch.device("meta"):
        model = ElementFinder(ElementFinderConfig(16, 32, 1, 64, 2, ROLES))
    return materialise(model).eval()


def inputs(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(count)
    views = torch.randint(0, 256, (count, VIEWS, 16, 16, 3), dtype=torch.uint8, generator=generator)
    return [views, torch.arange(count) % 3, BOXES[:count]]


def test_it_says_something_of_every_proposal_and_role(finder) -> None:
    found = finder(*inputs(5), torch.tensor([5]), torch.tensor([[100.0, 200]]))
    assert found.logits.shape == (5, len(ROLES))
    assert found.sides.shape == (5, len(ROLES), 4)
    assert torch.all(found.sides > 0)
    assert found.logits.sigmoid().mean() < 0.1  # most proposals are no element of a role
    assert found.boxes(BOXES).shape == (5, len(ROLES), 4)


@torch.no_grad()
def test_a_screen_is_judged_alike_beside_others(finder) -> None:
    sizes = torch.tensor([[100.0, 200], [300, 400]])
    both = [torch.cat(pair) for pair in zip(inputs(3), inputs(5), strict=True)]
    together = finder(*both, torch.tensor([3, 5]), sizes)
    for rows, count, size in ((slice(0, 3), 3, sizes[:1]), (slice(3, 8), 5, sizes[1:])):
        alone = finder(*inputs(count), torch.tensor([count]), size)
        torch.testing.assert_close(together.logits[rows], alone.logits, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(together.sides[rows], alone.sides, atol=1e-3, rtol=1e-4)


@torch.no_grad()
def test_proposals_see_each_other(finder) -> None:
    size = torch.tensor([[100.0, 200]])
    one, more = (finder(*inputs(5), torch.tensor(counts), size.expand(len(counts), 2)) for counts in ([5], [1, 4]))
    assert not torch.allclose(one.logits, more.logits)


def truth() -> tuple[Tensor, Tensor]:
    which, boxes = mark_elements(ELEMENTS, ROLES, BOXES.numpy())
    return torch.from_numpy(which), torch.from_numpy(boxes)


def perfect(which: Tensor, elements: Tensor, moved: float = 0.0) -> Found:
    edges = elements[(which - 1).clamp(min=0)]  # [T, R, 4]
    centre = ((BOXES[:, :2] + BOXES[:, 2:]) / 2)[:, None]
    sides = torch.cat((centre - edges[..., :2], edges[..., 2:] - centre - moved), -1)
    return Found(torch.where(which > 0, 12.0, -12.0), sides)


def test_a_perfect_answer_has_no_loss_and_a_worse_one_has() -> None:
    which, elements = truth()
    assert sorted(np.unique(which).tolist()) == [0, 1, 2, 3]
    known = BOXES, torch.tensor([5]), which, elements
    assert element_loss(perfect(which, elements), *known).item() == pytest.approx(0, abs=1e-3)
    assert element_loss(perfect(which, elements, moved=2), *known).item() > 0.05
    missed = perfect(which, elements)
    assert element_loss(missed._replace(logits=-missed.logits.abs()), *known).item() > 1
    found = element_loss(missed._replace(logits=missed.logits.abs()), *known).item()
    assert found > 1  # elements where none are


def test_the_loss_of_a_screen_is_its_own() -> None:
    which, elements = truth()
    said = perfect(which, elements, moved=1)
    alone = element_loss(said, BOXES, torch.tensor([5]), which, elements)
    twice = Found(*(torch.cat((each, each)) for each in said))
    more = torch.where(which > 0, which + len(elements), 0)
    both = element_loss(
        twice, BOXES.repeat(2, 1), torch.tensor([5, 5]), torch.cat((which, more)), elements.repeat(2, 1)
    )
    torch.testing.assert_close(both, alone.expand(2))


def test_a_screen_without_elements_has_a_finite_loss() -> None:
    said = Found(torch.full((5, len(ROLES)), -3.0), torch.ones(5, len(ROLES), 4))
    none = torch.zeros(5, len(ROLES), dtype=torch.long)
    assert torch.all(element_loss(said, BOXES, torch.tensor([2, 3]), none, torch.zeros(0, 4)).isfinite())
