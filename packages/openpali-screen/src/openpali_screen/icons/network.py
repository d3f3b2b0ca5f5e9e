"""Naming icons: a classifier that sees an icon's shape, whatever its colours.

Shapes: B batch, H W pixels, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from openpali.model.vit import Classifier, ViTConfig
from openpali_screen.geometry import Image
from openpali_screen.networks import Floats, IconNetwork
from openpali_screen.vit import PageViT, array_of, tensor_on

_LEAST = 24.0  # contrast of an icon, of 255; below, noise would be enlarged


@dataclass(frozen=True)
class IconConfig:
    """Shape of the ViT, whose patches have 16 pixels, and the names of the classes."""

    vision: ViTConfig
    labels: tuple[str, ...]


class IconClassifier(Classifier):
    """A :class:`~openpali.model.vit.Classifier` with the stem of :class:`~openpali_screen.vit.PageViT`, which
    sees the contrast of its images."""

    def __init__(self, config: IconConfig) -> None:
        super().__init__(config.vision, len(config.labels))
        self.vit, self.labels = PageViT(config.vision), config.labels

    def forward(self, images_BHWC: Tensor) -> Tensor:
        tokens, _ = self.vit(contrast(images_BHWC))
        return cast(Tensor, self.head(self.pool(tokens.flatten(1, 2))))


def contrast(images_BHWC: Tensor) -> Tensor:
    """How far each pixel is from the colour of the ground: uint8 ``[B, H, W, 3]`` -> float of the same shape.

    The ground, -1, is the median of the border; 1 is the largest distance in the middle of the image.
    """
    x = images_BHWC.float()
    border = torch.cat([x[:, 0], x[:, -1], x[:, :, 0], x[:, :, -1]], 1)
    median = border.sort(1).values[:, (border.shape[1] - 1) // 2]  # ONNX can sort
    distance = (x - median[:, None, None]).abs().amax(-1)
    height, width = x.shape[1:3]
    middle = distance[:, height // 6 : -(height // 6), width // 6 : -(width // 6)]
    most = middle.amax((1, 2), keepdim=True).clamp(min=_LEAST)
    return ((distance / most).clamp(max=1) * 2 - 1)[..., None].expand_as(x)


def icons_of(module: IconClassifier) -> IconNetwork:
    @torch.inference_mode()
    def run(icons: Image) -> Floats:
        return array_of(module(tensor_on(icons, module)).float().softmax(1))

    return IconNetwork(module.vit.config.image_size[0], module.labels, run)
