"""An image encoder for text: a ViT with a convolutional stem, which sees patches and cells.

Shapes: B batch, H W pixels, h w cells, N patches, D width.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from openpali.model.init import init_children
from openpali.model.layers import Conv2d, device_of
from openpali.model.vit import LAYER_NORM_EPS, ViT, ViTConfig, scaled
from openpali_screen.views import CELL, PATCH

CELLS = PATCH // CELL
"""Cells in a row of a patch."""
CHANNELS = (32, 64, 128)  # of the convolutions; the second sees cells


class Stem(nn.Module):
    """Convolutions in place of a linear patch embedding: small models learn faster (arXiv 2106.14881).

    Pixels ``[B, H, W, 3]`` in -1..1 -> features of each cell ``[B, h, w, 64]``, and of each patch ``[B, H / 16, W /
    16, D]``.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = (3, *CHANNELS, width)
        self.convolutions = nn.ModuleList(Conv2d(a, b, 3, 2, 1) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(nn.LayerNorm(size, eps=LAYER_NORM_EPS) for size in CHANNELS)

    def init_weights(self) -> None:
        init_children(self)
        for layer in cast("list[Conv2d]", self.convolutions):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(cast(Tensor, layer.bias))

    def forward(self, pixels_BHWC: Tensor, inside_BW: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``inside_BW``, bool, says which columns of pixels are no padding; padding changes no other column."""
        x, steps = pixels_BHWC, []
        for convolution, norm in zip(self.convolutions, [*self.norms, None], strict=True):
            if inside_BW is not None:
                x = x * inside_BW[:, None, :, None]
                inside_BW = inside_BW[:, ::2]
            x = convolution(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # channels last, with no copy
            if norm is not None:
                x = F.gelu(norm(x))
            steps.append(x)
        return steps[1], steps[3]


class PageViT(ViT):
    """A :class:`~openpali.model.vit.ViT` whose patches come from a :class:`Stem`, and which also keeps its cells.

    ``forward`` takes images ``[B, H, W, 3]``, uint8 in 0..255 or float in -1..1, of the height of
    ``config.image_size`` and at most as wide, a multiple of 16. It returns tokens ``[B, H / 16, W / 16, D]`` and
    features of cells ``[B, H / 4, W / 4, 64]``. ``columns_B`` says how many columns of patches each image has; the
    columns after them are padding, which changes nothing.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config, exact=True)
        if config.patch_size != PATCH:
            raise ValueError(
                f"pages are seen in patches of {PATCH} pixels: patch_size {config.patch_size} is another"
            )
        self.patch_embed = Stem(config.width)

    def forward(self, images_BHWC: Tensor, columns_B: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        (rows, most), (height, width) = self.config.grid, images_BHWC.shape[1:3]
        columns, rest = width // PATCH, width % PATCH  # torch.export traces no divmod
        if height != rows * PATCH or rest or not 0 < columns <= most:
            raise ValueError(
                f"an image of {height} x {width} pixels: make it {rows * PATCH} high, and a multiple of {PATCH} up "
                f"to {most * PATCH} wide"
            )
        inside = mask = None
        if columns_B is not None:
            inside = torch.arange(width, device=columns_B.device) < PATCH * columns_B[:, None]
            mask = inside[:, ::PATCH].repeat(1, rows)[:, None, None]  # [B, 1, 1, N]
        cells, patches = self.patch_embed(scaled(images_BHWC, self.positions.dtype), inside)
        positions = self.positions.view(rows, most, -1)[:, :columns]
        tokens = self.encoder((patches + positions).flatten(1, 2), mask=mask)
        return tokens.view(-1, rows, columns, tokens.shape[-1]), cells


def tensor_on(array: NDArray[Any], module: nn.Module) -> Tensor:
    """An array where a module is."""
    return torch.from_numpy(array).to(device_of(module))


def array_of(tensor: Tensor) -> NDArray[np.float32]:
    """A tensor in float32 on the CPU."""
    return tensor.float().cpu().numpy()
