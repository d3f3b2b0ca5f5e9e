"""big_vision's file of the mask VQ-VAE, against a forward pass written out from its code."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from openpali.architectures.mask_vqvae import read_mask_codec
from openpali.weights.convert import convert
from openpali.weights.mask_codec import open_mask_codec

Arrays = dict[str, np.ndarray]
ENCODER, WIDTH, CODES, DIM = (6, 10, 14, 12), 16, 128, 8


def arrays() -> Arrays:
    """A file in the layout of `vae-oid.npz`: torch's names, and running averages that nothing needs."""
    generator = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {}
    for i, (narrow, wide) in enumerate(pairwise((1, *ENCODER))):
        shapes[f"encoder.{2 * i}"] = (wide, narrow, 4, 4)
    for name, width in (("encoder.8", 12), ("encoder.9", 12), ("decoder.2", WIDTH), ("decoder.3", WIDTH)):
        for place, size in ((0, 3), (2, 3), (4, 1)):
            shapes[f"{name}.net.{place}"] = (width, width, size, size)
    shapes |= {"encoder.10": (DIM, 12, 1, 1), "decoder.0": (WIDTH, DIM, 1, 1), "decoder.12": (1, WIDTH // 8, 1, 1)}
    ups = (WIDTH, WIDTH, WIDTH // 2, WIDTH // 4, WIDTH // 8)
    for i, (wide, narrow) in enumerate(pairwise(ups)):
        shapes[f"decoder.{4 + 2 * i}"] = (wide, narrow, 4, 4)
    tree = {}
    for name, shape in shapes.items():
        weight = torch.randn(shape, generator=generator) * (2 / np.prod(shape[1:])) ** 0.5
        outputs = shape[1] if name in ("decoder.4", "decoder.6", "decoder.8", "decoder.10") else shape[0]
        tree[f"{name}.weight"], tree[f"{name}.bias"] = weight, torch.randn(outputs, generator=generator) * 0.1
    tree["_vq_vae._embedding"] = torch.randn(CODES, DIM, generator=generator)
    tree["_vq_vae._ema_w"] = torch.zeros(CODES, DIM)
    return {key: value.numpy() for key, value in tree.items()}


def reference(tree: Arrays, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and reconstructions, step by step as big_vision's two files have them."""
    w = {key: torch.from_numpy(value) for key, value in tree.items()}

    def block(x: Tensor, name: str) -> Tensor:
        y = F.conv2d(x, w[f"{name}.net.0.weight"], w[f"{name}.net.0.bias"], padding="same").relu()
        y = F.conv2d(y, w[f"{name}.net.2.weight"], w[f"{name}.net.2.bias"], padding="same").relu()
        return x + F.conv2d(y, w[f"{name}.net.4.weight"], w[f"{name}.net.4.bias"])

    x = 2 * (masks[:, None] - 0.5)
    for i in range(0, 8, 2):  # "SAME" of stride 2 and an even kernel: one row on each side
        x = F.conv2d(F.pad(x, (1, 1, 1, 1)), w[f"encoder.{i}.weight"], w[f"encoder.{i}.bias"], stride=2).relu()
    x = block(block(x, "encoder.8"), "encoder.9")
    x = F.conv2d(x, w["encoder.10.weight"], w["encoder.10.bias"])
    flat = x.permute(0, 2, 3, 1).reshape(-1, DIM)
    codes = torch.cdist(flat, w["_vq_vae._embedding"]).argmin(1).reshape(len(masks), 16)
    x = w["_vq_vae._embedding"][codes].reshape(-1, 4, 4, DIM).permute(0, 3, 1, 2)
    x = F.conv2d(x, w["decoder.0.weight"], w["decoder.0.bias"]).relu()
    x = block(block(x, "decoder.2"), "decoder.3")
    for i in (4, 6, 8, 10):  # a transposed convolution, as the gradient of one
        side = 2 * x.shape[2]
        shape = (len(x), w[f"decoder.{i}.weight"].shape[1], side, side)
        y = torch.nn.grad.conv2d_input(shape, w[f"decoder.{i}.weight"], x, stride=2, padding=1)
        x = (y + w[f"decoder.{i}.bias"][:, None, None]).relu()
    return codes, F.conv2d(x, w["decoder.12.weight"], w["decoder.12.bias"])[:, 0]


def test_codes_and_reconstructions_are_the_same(tmp_path: Path) -> None:
    tree = arrays()
    np.savez(tmp_path / "vae-oid.npz", **tree)
    convert([tmp_path / "vae-oid.npz"], tmp_path / "masks")
    codec = open_mask_codec(tmp_path / "masks")
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    masks = torch.stack([(y - 20) ** 2 + (x - 30) ** 2 < 300, x > y, y > 70]).float()
    codes, images = reference(tree, masks)
    assert len(codes.unique()) > 5
    for mask, expected, image in zip(masks, codes, images, strict=True):
        found = codec.encode(mask.numpy())
        assert list(found) == expected.tolist()
        np.testing.assert_allclose(codec.decode(found), image, rtol=0, atol=1e-5)


def test_it_has_one_size(tmp_path: Path) -> None:
    np.savez(tmp_path / "vae-oid.npz", **arrays())
    with pytest.raises(ValueError, match=r"vae-oid\.npz is a mask VQ-VAE, which has one size: leave out --size"):
        convert([tmp_path / "vae-oid.npz"], tmp_path / "masks", size=(64, 64))


@pytest.mark.parametrize("name", ["_vq_vae._embedding", "decoder.0.weight", "encoder.9.net.2.bias"])
def test_another_file_is_refused(name: str, tmp_path: Path) -> None:
    tree = arrays()
    del tree[name]
    np.savez(tmp_path / "vae.npz", **tree)
    with pytest.raises(ValueError, match=f"(no {name}|{name} is missing)"):
        read_mask_codec(tmp_path / "vae.npz")


def test_a_kernel_of_another_size_is_refused(tmp_path: Path) -> None:
    tree = arrays()
    np.savez(tmp_path / "vae.npz", **{**tree, "encoder.2.weight": tree["encoder.2.weight"][..., :3, :3]})
    with pytest.raises(ValueError):
        read_mask_codec(tmp_path / "vae.npz")
