from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from openpali.architectures.siglip.network import SigLIP, SigLIPConfig, TextTowerConfig
from openpali.model.init import init_weights
from openpali.model.vit import ViT, ViTConfig, resample_positions, sincos_positions

CONFIG = ViTConfig(patch_size=4, grid=(2, 3), width=16, depth=2, mlp_dim=24, heads=2)


@pytest.fixture
def vit() -> ViT:
    torch.manual_seed(0)
    return init_weights(ViT(CONFIG))


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (2, 8, 12, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def test_patches_are_those_of_a_convolution(vit: ViT, images: Tensor) -> None:
    floats = images.float() / 127.5 - 1
    kernel = vit.patch_embed.weight.view(16, 4, 4, 3).permute(0, 3, 1, 2)
    expected = F.conv2d(floats.permute(0, 3, 1, 2), kernel, vit.patch_embed.bias, stride=4)  # [B, D, rows, columns]
    tokens = vit.patch_embed(vit.patchify(floats))
    torch.testing.assert_close(tokens, expected.flatten(2).transpose(1, 2), rtol=0, atol=1e-5)


def test_bytes_and_floats_agree(vit: ViT, images: Tensor) -> None:
    torch.testing.assert_close(vit(images), vit(images.float() / 127.5 - 1))
    patches = vit.patchify(torch.tensor([0, 255], dtype=torch.uint8).repeat(144)[None].view(1, 8, 12, 3))
    assert patches.unique().tolist() == [-1, 1]


def test_another_size_is_an_error(vit: ViT) -> None:
    with pytest.raises(ValueError):
        vit(torch.zeros(1, 12, 8, 3))


# scipy.ndimage.zoom(grid, new / old, order=1) of scipy 1.17
ZOOMED = [
    (
        [[0, 6, -3], [12, 2, 5]],
        [
            [0.0, 3.0, 6.0, 1.5, -3.0],
            [4.0, 4.333333, 4.666666, 2.166667, -0.333333],
            [8.0, 5.666666, 3.333333, 2.833333, 2.333333],
            [12.0, 7.0, 2.0, 3.5, 5.0],
        ],
    ),
    ([[1, -4, 8, 2], [0, 3, 5, -6], [7, 9, -2, 4]], [[1.0, 2.0, 2.0], [7.0, 3.5, 4.0]]),
]


@pytest.mark.parametrize(("old", "new"), ZOOMED)
def test_resampled_positions_are_those_of_scipy(old: list[list[float]], new: list[list[float]]) -> None:
    before, after = torch.tensor(old, dtype=torch.float32), torch.tensor(new)
    two = torch.stack([before.flatten(), -2 * before.flatten()], dim=1)  # channels must not mix
    resampled = resample_positions(two, tuple(before.shape), tuple(after.shape))
    torch.testing.assert_close(
        resampled, torch.stack([after.flatten(), -2 * after.flatten()], 1), rtol=0, atol=1e-5
    )


def test_resampling_to_the_same_grid_changes_nothing() -> None:
    positions = torch.randn(6, 4)
    same = resample_positions(positions, (2, 3), (2, 3))
    assert torch.equal(same, positions)
    assert same.data_ptr() != positions.data_ptr()


@pytest.mark.parametrize("learns", [True, False])
def test_set_grid_there_and_back(vit: ViT, learns: bool) -> None:
    """(2, 3) -> (3, 5) -> (2, 3): the old points are points of the finer grid."""
    vit.positions.requires_grad_(learns)
    before = vit.positions.detach().clone()
    vit.set_grid((3, 5))
    assert vit.config.image_size == (12, 20)
    assert vit(torch.zeros(1, 12, 20, 3)).shape == (1, 15, 16)
    assert isinstance(vit.positions, torch.nn.Parameter)
    assert vit.positions.requires_grad == learns
    assert vit.positions.is_leaf
    vit.set_grid((2, 3))
    assert vit.config == CONFIG
    torch.testing.assert_close(vit.positions.detach(), before)


def test_text_of_another_length_is_an_error() -> None:
    text = TextTowerConfig(vocab_size=9, length=4, width=8, depth=1, mlp_dim=8, heads=2)
    model = init_weights(SigLIP(SigLIPConfig(CONFIG, text, temperature=5.0, bias=-3.0)))
    assert model.log_temperature.exp().item() == pytest.approx(5)
    assert model.bias.item() == -3
    with pytest.raises(ValueError):
        model.embed_text(torch.zeros(1, 3, dtype=torch.long))


def test_first_positions_are_of_one_length_and_tell_row_and_column() -> None:
    positions = sincos_positions((5, 7), 48)
    torch.testing.assert_close(positions.norm(dim=1), torch.full((35,), 24**0.5))
    by_place = positions.view(5, 7, 2, 24)  # first half of a vector: the row, second half: the column
    assert torch.equal(by_place[:, :1, 0].expand(5, 7, 24), by_place[:, :, 0])
    assert torch.equal(by_place[:1, :, 1].expand(5, 7, 24), by_place[:, :, 1])
    distances = torch.cdist(positions, positions) + 100 * torch.eye(35)
    nearest = distances.argmin(1)
    assert all(abs(int(n) // 7 - i // 7) + abs(int(n) % 7 - i % 7) == 1 for i, n in enumerate(nearest))
