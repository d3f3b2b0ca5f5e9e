"""Finding lines of text with an image encoder alone: a head on its cells, no decoder.

The finder looks at a page at small scale. For every cell of 4 x 4 pixels it says whether the middle of a line of
text is there, and how far the line reaches up and down, as EAST (arXiv 1704.03155) and DB (arXiv 1911.08947) do on
a CNN.

Shapes: B batch, H W pixels, h w cells, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openpali.model.init import init_children
from openpali.model.layers import Conv2d, Linear
from openpali.model.vit import ViTConfig
from openpali_screen.geometry import Image, Size
from openpali_screen.networks import FinderNetwork, Floats
from openpali_screen.views import CELL
from openpali_screen.vit import CELLS, CHANNELS, PageViT, array_of, tensor_on

_CELL_CHANNELS = 32  # of what the finder knows of a cell


@dataclass(frozen=True)
class FinderConfig:
    """Shape of a finder: that of its ViT."""

    vision: ViTConfig


class Cells(NamedTuple):
    """What a finder says of every cell; float ``[B, h, w]``.

    Attributes:
        logits: of the probability that the middle of a line is here.
        up, down: pixels from the centre of the cell to the top and the bottom of the line, above 0.
    """

    logits: Tensor
    up: Tensor
    down: Tensor


class Finder(nn.Module):
    """Images ``[B, H, W, 3]`` as for :class:`PageViT` -> :class:`Cells` of ``H / 4`` x ``W / 4``."""

    def __init__(self, config: FinderConfig) -> None:
        super().__init__()
        self.config = config
        self.vit = PageViT(config.vision)
        self.within = Linear(config.vision.width, CELLS**2 * _CELL_CHANNELS)
        self.around = Conv2d(CHANNELS[1], _CELL_CHANNELS, 3, padding=1)
        self.head = Linear(_CELL_CHANNELS, len(Cells._fields))

    def init_weights(self) -> None:
        init_children(self)
        nn.init.normal_(self.head.weight, std=0.05)
        nn.init.zeros_(self.head.bias)
        self.head.bias[0] = -2.0  # most cells hold no text

    def forward(self, images_BHWC: Tensor) -> Cells:
        return self.run_head(*self.vit(images_BHWC))

    def run_head(self, tokens: Tensor, cells: Tensor) -> Cells:
        """The second half of ``forward``: cells from what the ViT returns."""
        seen = self.within(tokens).unflatten(-1, (CELLS, CELLS, -1)).transpose(2, 3)
        seen = seen.flatten(3, 4).flatten(1, 2)  # [B, h, w, 32]
        seen = seen + self.around(cells.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        outputs = self.head(F.gelu(seen)).float()  # [B, h, w, 3]
        logits, up, down = outputs.unbind(-1)
        return Cells(logits, 2 * CELL * up.exp(), 2 * CELL * down.exp())


class Truth(NamedTuple):
    """What a finder should say; ``[B, h, w]``.

    Attributes:
        text: 1 where the middle of a line is, 0 elsewhere, -1 where nobody knows; int8.
        up, down: pixels to the top and the bottom of the line, float; 0 where there is none.
        weight: of each cell in both means of the loss, float; 1 but for cells of short lines.
    """

    text: Tensor
    up: Tensor
    down: Tensor
    weight: Tensor


def finding_loss(cells: Cells, truth: Truth) -> Tensor:
    """Loss of each image ``[B]``: cross-entropy of text or not, and 1 - IoU of the heights of lines.

    Means, weighted, over the cells that are known and over those of lines; IoU is that of two intervals around the
    centre of a cell, as in EAST, which counts errors in small lines as much as in large ones.
    """
    known, line = (truth.text >= 0) * truth.weight, (truth.text > 0).float()
    unsure = F.binary_cross_entropy_with_logits(cells.logits, line, reduction="none") * known
    both = torch.minimum(cells.up, truth.up) + torch.minimum(cells.down, truth.down)
    either = torch.maximum(cells.up, truth.up) + torch.maximum(cells.down, truth.down)
    here = line * truth.weight
    misplaced = (1 - both / either) * here
    return 4 * _mean(unsure, known) + _mean(misplaced, here)


def _mean(values_Bhw: Tensor, counted_Bhw: Tensor) -> Tensor:
    return values_Bhw.sum((1, 2)) / counted_Bhw.sum((1, 2)).clamp(min=1)


def finder_of(module: Finder) -> FinderNetwork:
    @torch.inference_mode()
    def run(tiles: Image) -> tuple[Floats, Floats]:
        tokens, cells = module.vit(tensor_on(tiles, module))
        found = module.run_head(tokens, cells)
        outputs = torch.stack((found.logits.sigmoid(), found.up, found.down), 1)
        return array_of(outputs), array_of(tokens.flatten(1, 2))

    return FinderNetwork(Size(*module.vit.config.image_size), run)
