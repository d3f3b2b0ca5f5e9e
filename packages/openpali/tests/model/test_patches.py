"""Images in their own proportions: positions, masks, and that neither padding nor neighbours change anything."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from openpali.architectures.siglip.network import SigLIP, SigLIPConfig, TextTowerConfig
from openpali.model.init import init_weights
from openpali.model.patches import Patches, positions_on, visible
from openpali.model.regions import Regions
from openpali.model.vit import ViTConfig

VISION = ViTConfig(patch_size=2, grid=(4, 4), width=16, depth=2, mlp_dim=24, heads=2, tokens=16)
GRIDS = [(4, 4), (1, 16), (7, 2), (3, 5), (1, 1)]


@pytest.fixture
def model() -> SigLIP:
    torch.manual_seed(0)
    model = init_weights(SigLIP(SigLIPConfig(VISION, TextTowerConfig(20, 4, 16, 1, 24, 2)))).eval()
    torch.nn.init.normal_(model.vit.positions)
    return model


def patches(grids: list[tuple[int, int]] = GRIDS, length: int = 16, padding: int = 0) -> Patches:
    """Random patches, the same for each image whatever its neighbours and its padding."""
    values = torch.full((len(grids), length, 12), padding, dtype=torch.uint8)
    for place, (rows, columns) in zip(values, grids, strict=True):
        drawn = torch.Generator().manual_seed(rows * 100 + columns)
        place[: rows * columns] = torch.randint(0, 256, (rows * columns, 12), generator=drawn)
    return Patches(values, torch.tensor(grids))


@pytest.mark.parametrize("table_grid", [(4, 4), (3, 5), (16, 16)])
def test_positions_are_those_of_an_antialiased_resize(table_grid: tuple[int, int]) -> None:
    table = torch.randn(table_grid[0] * table_grid[1], 8, generator=torch.Generator().manual_seed(0))
    grids = [*GRIDS, (2, 90), (31, 17)]
    found = positions_on(torch.tensor(grids), 600, table, table_grid)
    image = table.view(*table_grid, 8).permute(2, 0, 1)[None]
    for got, grid in zip(found, grids, strict=True):
        expected = F.interpolate(image, size=grid, mode="bilinear", align_corners=False, antialias=True)
        torch.testing.assert_close(got[: grid[0] * grid[1]], expected[0].flatten(1).T, rtol=0, atol=2e-6)
    assert found.isfinite().all()


def test_a_square_image_is_that_of_one_size(model: SigLIP) -> None:
    """On the grid of the position embeddings, both kinds of input mean the same."""
    images = torch.randint(0, 256, (2, 8, 8, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    cut = images.view(2, 4, 2, 4, 2, 3).transpose(2, 3).reshape(2, 16, 12)
    expected = model.embed_image(images)
    found = model.embed_image(Patches(cut, torch.tensor([[4, 4], [4, 4]])))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_batch_is_its_images_one_by_one(model: SigLIP) -> None:
    together = model.embed_image(patches())
    for row, grid in zip(together, GRIDS, strict=True):
        alone = model.embed_image(patches([grid], length=grid[0] * grid[1]))
        torch.testing.assert_close(row, alone[0], rtol=0, atol=1e-6)


def test_padding_changes_nothing(model: SigLIP) -> None:
    """Neither its values nor how much of it there is; tokens, embeddings and gradients."""

    def outcome(images: Patches) -> tuple[Tensor, ...]:
        model.zero_grad()
        tokens = model.vit(images)
        real = visible(images)
        assert real is not None
        regions = Regions(
            torch.tensor([1, 3]),
            torch.tensor([[0.5, 0.9, 0.5, 0.9], [0.9, 0.1, 0.9, 0.1]]),
            torch.ones(2, 4).long(),
            None,
        )
        embedded = model(images, torch.ones(len(GRIDS), 4, dtype=torch.long), regions)
        (embedded.image.sum() + embedded.region.square().sum() + embedded.image.prod(1).sum()).backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        return tokens[real[:, 0, 0]], embedded.image, embedded.region, *gradients

    expected = outcome(patches())
    for other in (patches(padding=200), patches(length=40)):
        for found, wanted in zip(outcome(other), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
