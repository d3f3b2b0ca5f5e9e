"""DaViT (arXiv 2204.03645): an image encoder in which tokens of a window attend to each other, then channels do.

Four stages, each at half the resolution of the one before. Tokens stay on their grid, where depthwise convolutions
tell them their place: there are no position embeddings, and images may have any size.

Shapes: B batch, H W rows and columns of a grid, N tokens, C width, g groups of channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openpali.architectures.preprocessor import MEAN, STD
from openpali.model.attention import AttentionLayer, Scoring
from openpali.model.cache import Extend
from openpali.model.init import init_children
from openpali.model.layers import Conv2d, Linear
from openpali.model.vit import MLP, Attention, ImageEncoder, init_projections, scaled

KERNELS, STRIDES, PADDINGS = (7, 3, 3, 3), (4, 2, 2, 2), (3, 1, 1, 1)
"""Of the convolution that begins each stage, in pixels or in tokens of the stage before."""
"""Of ImageNet's pixels in 0..1, by channel: the model sees ``(pixel - mean) / std``."""
PATCH = 32  # pixels, the product of the strides
MLP_RATIO = 4
PLACE = 3  # side of depthwise convolutions in tokens


@dataclass(frozen=True)
class DaViTConfig:
    """Shape of a DaViT.

    Attributes:
        grid: rows and columns of the last stage.
        widths, depths, heads, groups: of each of the four stages; heads within windows, groups of channels.
        window: side of a window in tokens.
    """

    grid: tuple[int, int]
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    groups: tuple[int, ...]
    window: int = 12

    patch_size: ClassVar[int] = PATCH
    tokens: ClassVar[int] = 0  # images have one size, see ViTConfig

    @property
    def width(self) -> int:
        """Of the tokens that come out."""
        return self.widths[-1]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of images in pixels."""
        return self.grid[0] * PATCH, self.grid[1] * PATCH

    def multiply_adds(self, size: tuple[int, int]) -> int:
        """Of the convolutions and matmuls for an image of ``size`` (height, width in pixels)."""
        total, channels, (height, width) = 0, 3, size
        for i, out in enumerate(self.widths):
            height, width = height // STRIDES[i], width // STRIDES[i]
            projections = 2 * (4 + 2 * MLP_RATIO) * out**2
            scores = 2 * out * (self.window**2 + out // self.groups[i])
            places = 4 * PLACE**2 * out
            per_token = KERNELS[i] ** 2 * channels * out + self.depths[i] * (projections + scores + places)
            total, channels = total + height * width * per_token, out
        return total


class Downsample(nn.Module):
    """The convolution that begins stage ``i``, and a norm: before it, but after the one that sees pixels."""

    def __init__(self, config: DaViTConfig, i: int) -> None:
        super().__init__()
        channels, self.sees_pixels = (config.widths[i - 1], False) if i else (3, True)
        self.conv = Conv2d(channels, config.widths[i], KERNELS[i], STRIDES[i], PADDINGS[i])
        self.norm = nn.LayerNorm(config.widths[i] if self.sees_pixels else channels)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        x = x_BHWC if self.sees_pixels else self.norm(x_BHWC)
        x = _convolve(self.conv, x)
        return cast(Tensor, self.norm(x) if self.sees_pixels else x)


class WindowAttention(Attention):
    """Self-attention within windows of ``[B, H, W, C]``; those that reach over the edge see zeros there."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__(width, heads)
        self.window = window

    def forward(self, x_BHWC: Tensor, mask: Tensor | None = None, extend: Extend | None = None) -> Tensor:
        w, (height, width) = self.window, x_BHWC.shape[1:3]
        x = F.pad(x_BHWC, (0, 0, 0, -width % w, 0, -height % w))
        rows, columns = x.shape[1] // w, x.shape[2] // w
        windows = x.view(-1, rows, w, columns, w, x.shape[-1]).transpose(2, 3)  # [B, rows, columns, w, w, C]
        x = super().forward(windows.reshape(-1, w * w, x.shape[-1]), mask, extend).view(windows.shape)
        return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, :height, :width]


class ChannelAttention(AttentionLayer):
    """Attention between the channels of each group, which are vectors over all tokens: ``[B, H, W, C]``."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)

    def init_weights(self) -> None:
        init_children(self)
        init_projections(self.qkv, self.out)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        x_BNC = x_BHWC.flatten(1, 2)
        q, k, v = (
            t.reshape(*t.shape[:2], self.groups, -1).permute(0, 2, 3, 1)  # [B, g, C / g, N]
            for t in self.qkv(x_BNC).chunk(3, dim=-1)
        )
        x = self.attend(q, k, v, Scoring(scale=x_BNC.shape[1] ** -0.5))
        return cast(Tensor, self.out(x.permute(0, 3, 1, 2).flatten(2))).view(x_BHWC.shape)


class Mixer(nn.Module):
    """Attention of one kind, then an MLP, each behind a depthwise convolution and a norm: ``[B, H, W, C]``."""

    def __init__(self, width: int, attention: nn.Module) -> None:
        super().__init__()
        self.place_attention = _depthwise(width)
        self.norm_attention = nn.LayerNorm(width)
        self.attention = attention
        self.place_mlp = _depthwise(width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = MLP(width, MLP_RATIO * width, exact=True)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        x = x_BHWC + _convolve(self.place_attention, x_BHWC)
        x = x + self.attention(self.norm_attention(x))
        x = x + _convolve(self.place_mlp, x)
        return cast(Tensor, x + self.mlp(self.norm_mlp(x)))


class DualBlock(nn.Module):
    """Attention within windows, then between channels: ``[B, H, W, C]``."""

    def __init__(self, config: DaViTConfig, i: int) -> None:
        super().__init__()
        width = config.widths[i]
        self.spatial = Mixer(width, WindowAttention(width, config.heads[i], config.window))
        self.channel = Mixer(width, ChannelAttention(width, config.groups[i]))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        return cast(Tensor, self.channel(self.spatial(x_BHWC)))


class Stage(nn.Module):
    """Stage ``i`` of a DaViT: half the resolution, and blocks."""

    def __init__(self, config: DaViTConfig, i: int) -> None:
        super().__init__()
        self.down = Downsample(config, i)
        self.blocks = nn.ModuleList(DualBlock(config, i) for _ in range(config.depths[i]))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        x = self.down(x_BHWC)
        for block in self.blocks:
            x = block(x)
        return cast(Tensor, x)


class DaViT(ImageEncoder):
    """Image -> one token per 32 x 32 pixels.

    ``forward`` takes images ``[B, H, W, 3]``, uint8 in 0..255 or float in -1..1, of exactly ``config.image_size``.
    It returns float tokens ``[B, N, C]``, row-major over the grid.
    """

    config: DaViTConfig
    positions = None

    def __init__(self, config: DaViTConfig) -> None:
        super().__init__(config)
        self.stages = nn.ModuleList(Stage(config, i) for i in range(len(config.widths)))

    def forward(self, images_BHWC: Tensor) -> Tensor:
        self.require_size(images_BHWC)
        x = scaled(images_BHWC, torch.float32)
        mean, std = x.new_tensor(MEAN), x.new_tensor(STD)
        x = ((x * 0.5 + (0.5 - mean)) / std).to(next(self.parameters()).dtype)
        for stage in self.stages:
            x = stage(x)
        return x.flatten(1, 2)


def _depthwise(width: int) -> Conv2d:
    return Conv2d(width, width, PLACE, padding=PLACE // 2, groups=width)


def _convolve(conv: nn.Module, x_BHWC: Tensor) -> Tensor:
    return cast(Tensor, conv(x_BHWC.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
