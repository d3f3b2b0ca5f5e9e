"""Naming icons: the parts of an image that a model sees, and that colours do not matter to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from openpali.model.init import init_weights
from openpali.model.vit import ViTConfig
from openpali.tasks.example import Box
from openpali_screen.icons.network import IconClassifier, IconConfig, contrast, icons_of
from openpali_screen.icons.predict import icon_probabilities, name_icons


@pytest.fixture
def model() -> IconClassifier:
    torch.manual_seed(0)
    model = IconClassifier(IconConfig(ViTConfig(16, (3, 3), 32, 1, 32, 2), ("cross", "disc", "none")))
    with torch.no_grad():
        init_weights(model)
        torch.nn.init.normal_(model.head.weight)
    return model.eval()


def knowing(model: IconClassifier, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Names by the middle of an image; what it sees is kept."""
    seen: list[Tensor] = []

    def forward(images: Tensor) -> Tensor:
        seen.append(images)
        return torch.nn.functional.one_hot(images[:, 24, 24, 0].long(), 3) * 20.0

    monkeypatch.setattr(model, "forward", forward)
    return seen


def test_each_box_gets_a_name(model: IconClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = knowing(model, monkeypatch)
    image = np.full((100, 300, 3), 2, np.uint8)
    image[10:30, 20:40], image[50:98, 200:300] = 0, 1
    boxes = [Box(10, 20, 30, 40), Box(50, 200, 98, 300), Box(0, 90, 8, 100), Box(90.2, 280.5, 130, 330)] * 20
    named = name_icons(icons_of(model), image, boxes)
    assert [name for name, _ in named[:3]] == ["cross", "disc", "none"]
    assert all(p > 0.99 for _, p in named)
    assert [len(some) for some in seen] == [64, 16]
    assert seen[0][0, 4:44, 4:44].max() == 0
    assert seen[0][1, 0, 0].min() == 2  # the square around it
    assert seen[0][0, 0].min() > 0  # some room
    assert icon_probabilities(icons_of(model), image, boxes[:2]).shape == (2, 3)


def test_no_boxes_have_no_names(model: IconClassifier) -> None:
    assert name_icons(icons_of(model), np.zeros((20, 20, 3), np.uint8), []) == []


def drawn(ground: tuple[int, ...], ink: tuple[int, ...]) -> np.ndarray:
    image = np.full((48, 48, 3), ground, np.uint8)
    image[12:36, 20:28], image[20:28, 12:36] = ink, ink
    return image


@pytest.mark.parametrize("colours", [((255, 255, 255), (0, 0, 0)), ((20, 30, 40), (250, 220, 90))])
def test_colours_do_not_matter(model: IconClassifier, colours: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    images = torch.from_numpy(np.stack([drawn((255, 255, 255), (10, 60, 200)), drawn(*colours)]))
    seen = contrast(images)
    assert seen.shape == images.shape
    assert (seen.min(), seen.max()) == (-1, 1)
    assert torch.equal(seen[0], seen[1])
    one, other = model(images)
    torch.testing.assert_close(one, other)  # exact GELU rounds the last rows of a batch in another way


def test_noise_is_not_enlarged() -> None:
    image = torch.full((1, 48, 48, 3), 200, dtype=torch.uint8)
    image[:, 20:30, 20:30] = 206
    assert contrast(image).max() == pytest.approx(-0.5)
