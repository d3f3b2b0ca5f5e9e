"""Mask VQ-VAE: a 64 x 64 mask as 16 tokens out of 128 (Ning et al. 2023, arXiv 2301.02229), and the published one
from big_vision's `vae-oid.npz`.

The network has the shape of that one, and its modules are at the same places as in big_vision's two files
`segmentation.py` (encoder in `pp/proj`, decoder in `evaluators/proj`); names and layouts are torch's. As in UViM
(`trainers/proj/uvim/vqvae.py`), the codebook is learned by exponential moving averages; dead codes are restarted.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openpali.architectures.base import Architecture, Stored
from openpali.architectures.facts import Facts
from openpali.architectures.halves.big_vision import names_of, read_arrays
from openpali.architectures.rules import Rule, read, skeleton
from openpali.architectures.siglip.architecture import PRESETS as SIGLIP
from openpali.model.collectives import sum_over_ranks
from openpali.model.init import init_children
from openpali.model.layers import Conv2d, ConvTranspose2d

GRID = 4  # side of the grid of codes, row-major


@dataclass(frozen=True)
class MaskVQVAEConfig:
    """``width`` channels, ``codes`` vectors of ``code_dim``, ``decay`` of moving averages, weight of the
    ``commitment`` loss. ``encoder``: channels of its four strided convolutions; None: they follow from the width.
    """

    codes: int = 128
    code_dim: int = 128
    width: int = 128
    decay: float = 0.99
    commitment: float = 0.25
    encoder: tuple[int, ...] | None = None


class Reconstruction(NamedTuple):
    """Decoded masks ``[B, 64, 64]`` (positive inside), codes ``[B, 16]``, and the commitment loss (a scalar)."""

    masks: Tensor
    codes: Tensor
    commitment: Tensor


class ResidualBlock(nn.Module):
    """3x3 - ReLU - 3x3 - ReLU - 1x1, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            Conv2d(width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.layers(x))


class MaskVQVAE(nn.Module):
    """Encoder, codebook and decoder: masks -> codes -> masks."""

    codebook: Tensor
    code_count: Tensor
    code_sum: Tensor

    def __init__(self, config: MaskVQVAEConfig) -> None:
        super().__init__()
        self.config = config
        w = config.width
        channels = (1, *(config.encoder or (w // 4, w // 2, w, w)))
        encoder: list[nn.Module] = []
        for narrow, wide in itertools.pairwise(channels):
            encoder += [Conv2d(narrow, wide, 4, stride=2, padding=1), nn.ReLU()]
        encoder += [ResidualBlock(wide), ResidualBlock(wide), Conv2d(wide, config.code_dim, 1)]
        self.encoder = nn.Sequential(*encoder)
        decoder: list[nn.Module] = [Conv2d(config.code_dim, w, 1), nn.ReLU()]
        decoder += [ResidualBlock(w), ResidualBlock(w)]
        for wide, narrow in itertools.pairwise((w, w, w // 2, w // 4, w // 8)):
            decoder += [ConvTranspose2d(wide, narrow, 4, stride=2, padding=1), nn.ReLU()]
        self.decoder = nn.Sequential(*decoder, Conv2d(w // 8, 1, 1))
        self.register_buffer("codebook", torch.empty(config.codes, config.code_dim))
        self.register_buffer("code_count", torch.empty(config.codes))
        self.register_buffer("code_sum", torch.empty(config.codes, config.code_dim))

    def init_weights(self) -> None:
        init_children(self)
        for layer in self.modules():  # torch's default is smaller: all masks start in one code, and may stay there
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.normal_(self.codebook)
        nn.init.ones_(self.code_count)
        self.code_sum.copy_(self.codebook)

    def forward(self, masks: Tensor) -> Reconstruction:
        """Masks ``[B, 64, 64]`` in 0..1 -> reconstruction. In training the codebook follows the data."""
        z = self._encode(masks)  # [B, 16, C]
        with torch.autocast(z.device.type, enabled=False):  # the codebook and its averages stay in float32
            codes = self._nearest(z)
            quantised = self.codebook[codes]
            if self.training:
                self._update(z.detach().flatten(0, 1), codes.flatten())
        commitment = self.config.commitment * F.mse_loss(z, quantised)
        straight_through = z + (quantised - z).detach()
        return Reconstruction(self._decode(straight_through), codes, commitment)

    @torch.no_grad()
    def encode(self, masks: Tensor) -> Tensor:
        """Masks ``[B, 64, 64]`` in 0..1 -> codes ``[B, 16]`` in 0..127."""
        return self._nearest(self._encode(masks))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes ``[B, 16]`` -> masks ``[B, 64, 64]``, nominally in -1..1, positive inside."""
        return self._decode(self.codebook[codes])

    def _encode(self, masks: Tensor) -> Tensor:
        z = self.encoder(2 * (masks[:, None] - 0.5))  # [B, C, 4, 4]
        return cast(Tensor, z.flatten(2).transpose(1, 2).float())

    def _decode(self, z: Tensor) -> Tensor:
        grid = z.transpose(1, 2).reshape(z.shape[0], -1, GRID, GRID)
        return cast(Tensor, self.decoder(grid)).squeeze(1)

    def _nearest(self, z: Tensor) -> Tensor:
        distance = self.codebook.square().sum(-1) - 2 * z @ self.codebook.T  # |z|^2 does not change the argmin
        return distance.argmin(-1)

    @torch.no_grad()
    def _update(self, z: Tensor, codes: Tensor) -> None:
        one_hot = F.one_hot(codes, self.config.codes).to(z.dtype)
        count, total = one_hot.sum(0), one_hot.T @ z
        sum_over_ranks(count, total)
        self.code_count.lerp_(count, 1 - self.config.decay)
        self.code_sum.lerp_(total, 1 - self.config.decay)
        self._split_most_used()
        self.codebook.copy_(self.code_sum / self.code_count[:, None].clamp(min=1e-5))

    def _split_most_used(self) -> None:
        """Give a code that nothing maps to half of the most used one's vectors (UViM)."""
        least, most = self.code_count.argmin(), self.code_count.argmax()
        if self.code_count[least] < 0.01 * self.code_count.mean():
            self.code_count[most] /= 2
            self.code_sum[most] /= 2
            self.code_count[least] = self.code_count[most]
            self.code_sum[least] = self.code_sum[most] * 1.01


_CODEBOOK = "_vq_vae._embedding"
_WIDTH = "decoder.0.weight"
_STRIDED = [f"encoder.{2 * i}.weight" for i in range(4)]
_AVERAGES = ("code_count", "code_sum")  # of training, which the file does not have


def is_mask_codec(source: Path) -> bool:
    """Whether a file is big_vision's mask VQ-VAE."""
    return source.suffix == ".npz" and _CODEBOOK in names_of(source)


def read_mask_codec(path: Path) -> tuple[MaskVQVAEConfig, dict[str, Tensor]]:
    """The shape and the weights of :class:`MaskVQVAE`; training could go on from them."""
    arrays = read_arrays(path)
    if missing := [name for name in (_CODEBOOK, _WIDTH, *_STRIDED) if name not in arrays]:
        raise ValueError(f"{path} is no mask VQ-VAE of big_vision: it has no {', no '.join(missing)}")
    codebook = arrays[_CODEBOOK]
    arrays = {key: value for key, value in arrays.items() if key == _CODEBOOK or not key.startswith("_vq_vae.")}
    config = MaskVQVAEConfig(
        codes=codebook.shape[0],
        code_dim=codebook.shape[-1],
        width=len(arrays[_WIDTH]),
        encoder=tuple(len(arrays[name]) for name in _STRIDED),
    )
    ours = {key: value for key, value in skeleton(lambda: MaskVQVAE(config)).items() if key not in _AVERAGES}
    names = {key: key.replace(".layers.", ".net.") for key in ours} | {"codebook": _CODEBOOK}
    weights = read([Rule((key,), (names[key],)) for key in ours], ours, arrays, str(path))
    return config, {**weights, "code_count": torch.ones(config.codes), "code_sum": weights["codebook"].clone()}


class MaskVQVAEArchitecture(Architecture[MaskVQVAEConfig]):
    """Masks as tokens and back."""

    kind = "mask_vqvae"
    config = MaskVQVAEConfig
    network = MaskVQVAE
    presets = {
        **dict.fromkeys(SIGLIP, MaskVQVAEConfig()),
        "pico": MaskVQVAEConfig(code_dim=8, width=16),
        **dict.fromkeys(("nano", "nano-deep"), MaskVQVAEConfig(width=64, code_dim=32)),
    }

    def read(self, source: Path) -> Stored[MaskVQVAEConfig]:
        config, weights = read_mask_codec(source)
        about = f"mask VQ-VAE: {config.codes} codes of {config.code_dim}, {config.width} channels"
        return Stored(config, weights, facts=Facts(parts={"masks": str(source)}), about=[about])
