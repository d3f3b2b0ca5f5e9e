"""The mask VQ-VAE on its own; that ranks agree is in `test_losses.py`."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from openpali.architectures.mask_vqvae import MaskVQVAE, MaskVQVAEConfig
from openpali.model.init import init_weights

CONFIG = MaskVQVAEConfig(codes=32, code_dim=8, width=16, decay=0.9)


@pytest.fixture
def model() -> MaskVQVAE:
    torch.manual_seed(0)
    return init_weights(MaskVQVAE(CONFIG))


def shapes(count: int) -> Tensor:
    """Ellipses and boxes of many sizes and places, ``[count, 64, 64]``, each inside its frame."""
    generator = torch.Generator().manual_seed(1)
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    masks = []
    for i in range(count):
        cy, cx = 20 + 24 * torch.rand(2, generator=generator)
        ry, rx = 10 + 20 * torch.rand(2, generator=generator)
        dy, dx = (y - cy) / ry, (x - cx) / rx
        masks.append(dy**2 + dx**2 < 1 if i % 2 else torch.maximum(dy.abs(), dx.abs()) < 1)
    return torch.stack(masks).float()


def test_shapes_and_ranges(model: MaskVQVAE) -> None:
    masks = shapes(3)
    out = model(masks)
    assert out.masks.shape == (3, 64, 64)
    assert out.codes.shape == (3, 16)
    assert out.codes.dtype == torch.long
    assert out.commitment.shape == ()
    codes = model.encode(masks)
    assert codes.min() >= 0
    assert codes.max() < 32
    assert model.decode(codes).shape == (3, 64, 64)


def test_codes_are_the_nearest_vectors_row_major(model: MaskVQVAE) -> None:
    masks = shapes(2)
    z = model.encoder(2 * masks[:, None] - 1)  # [B, C, 4, 4]
    for row in range(4):
        for column in range(4):
            distance = torch.cdist(z[:, :, row, column], model.codebook)
            assert torch.equal(model.encode(masks)[:, 4 * row + column], distance.argmin(-1))


def test_the_commitment_pulls_the_encoder_to_the_codebook(model: MaskVQVAE) -> None:
    model.eval()
    masks = shapes(2)
    commitment = model(masks).commitment
    z = model.encoder(2 * masks[:, None] - 1).flatten(2).transpose(1, 2)
    nearest = torch.cdist(z, model.codebook[None]).min(-1).values
    torch.testing.assert_close(commitment, 0.25 * nearest.square().mean() / 8)
    commitment.backward()
    assert all(p.grad is not None for p in model.encoder.parameters())
    assert all(p.grad is None for p in model.decoder.parameters())


def test_the_codebook_moves_only_in_training(model: MaskVQVAE) -> None:
    masks = shapes(4)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.eval()
    model(masks)
    model.encode(masks)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    model.train()
    model.encode(masks)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    model(masks)
    assert all(not torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert before.keys() == {"codebook", "code_count", "code_sum"}


def test_the_codebook_goes_to_the_mean_of_what_maps_to_it(model: MaskVQVAE) -> None:
    """Two clusters, far apart, and a codebook that starts with one vector near each."""
    clusters = torch.tensor([[4.0] * 8, [-4.0] * 8])
    z = clusters.repeat(20, 1) + 0.1 * torch.randn(40, 8, generator=torch.Generator().manual_seed(2))
    model.codebook[:2] = clusters / 2
    model.code_sum[:2] = clusters / 2
    for _ in range(60):
        model._update(z, model._nearest(z))
    codes = model._nearest(z)
    assert not set(codes[::2].tolist()) & set(codes[1::2].tolist())
    torch.testing.assert_close(model.codebook[codes], z, rtol=0, atol=0.6)


def test_dead_codes_are_revived(model: MaskVQVAE) -> None:
    """Vectors where no data ever comes would stay unused for good."""
    model.codebook[1:] += 1000
    model.code_sum[1:] += 1000
    masks = shapes(16)
    assert model.encode(masks).unique().numel() == 1
    for _ in range(50):
        model(masks)
    assert model.encode(masks).unique().numel() >= 8
    assert model.codebook.isfinite().all()


def test_learns_sixteen_masks_by_heart() -> None:
    torch.manual_seed(1)
    model, masks = init_weights(MaskVQVAE(CONFIG)), shapes(16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(180):
        out = model(masks)
        (F.mse_loss(out.masks, 2 * masks - 1) + out.commitment).backward()
        optimizer.step()
        optimizer.zero_grad()
        found, real = out.masks > 0, masks > 0.5
        iou = (found & real).sum((1, 2)) / (found | real).sum((1, 2))
        if iou.mean() > 0.92:
            break
    model.eval()
    found = model.decode(model.encode(masks)) > 0
    iou = (found & real).sum((1, 2)) / (found | real).sum((1, 2))
    assert iou.mean() > 0.9
