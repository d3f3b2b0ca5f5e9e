"""Finding and reading text with the ViT alone: a linear head on every patch token, no decoder.

The finder looks at a page at small scale. For every cell of 4 x 4 pixels it says whether the middle of a line of
text is there, and how far the line reaches up and down, as EAST (arXiv 1704.03155) and DB (arXiv 1911.08947) do on
a CNN. The reader looks at one line at large scale, and names a character for every column of 4 pixels, with CTC
(Graves et al. 2006; SVTR, arXiv 2205.00159).

Shapes: B batch, H W pixels, h w cells, N patches, D width, T columns, C characters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openpali.model.init import init_children
from openpali.model.layers import Linear
from openpali.model.vit import ViT, ViTConfig

CELL = 4
"""Pixels of a cell's side and of a column's width."""


@dataclass(frozen=True)
class FinderConfig:
    """Shape of a finder: that of its ViT, whose patches are a multiple of :data:`CELL` wide."""

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
    """Images ``[B, H, W, 3]`` as for :class:`~openpali.model.vit.ViT` -> :class:`Cells` of ``H / 4`` x ``W /
    4``."""

    outputs = len(Cells._fields)

    def __init__(self, config: FinderConfig) -> None:
        super().__init__()
        self.config = config
        self.vit = ViT(config.vision)
        self.head = Linear(config.vision.width, cells_of(config.vision) ** 2 * self.outputs)

    def init_weights(self) -> None:
        init_children(self)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)
        self.head.bias.view(-1, self.outputs)[:, 0] = -2.0  # most cells hold no text

    def forward(self, images_BHWC: Tensor) -> Cells:
        (rows, columns), n = self.vit.config.grid, cells_of(self.vit.config)
        out = self.head(self.vit(images_BHWC)).float().view(-1, rows, columns, n, n, self.outputs)
        out = out.transpose(2, 3).reshape(-1, rows * n, columns * n, self.outputs)  # [B, h, w, outputs]
        logits, up, down = out.unbind(-1)
        return Cells(logits, 2 * CELL * up.exp(), 2 * CELL * down.exp())


@dataclass(frozen=True)
class ReaderConfig:
    """Shape of a reader.

    Attributes:
        vision: of its ViT. The rows of its grid make the height of a line, its columns the widest line.
        characters: what it can write, in the order of its outputs; the first is the space.
    """

    vision: ViTConfig
    characters: tuple[str, ...]


class Reader(nn.Module):
    """Lines ``[B, H, W, 3]`` uint8 -> logits ``[B, W / 4, 1 + C]`` of nothing (CTC's blank) and each character.

    H is the height of the ViT's images; W is any multiple of its patch size up to their width. ``columns_B``
    says how many columns of patches each line has, if some are padded.
    """

    def __init__(self, config: ReaderConfig) -> None:
        super().__init__()
        self.config = config
        self.vit = ViT(config.vision)
        self.outputs = 1 + len(config.characters)
        self.head = Linear(config.vision.grid[0] * config.vision.width, cells_of(config.vision) * self.outputs)

    def init_weights(self) -> None:
        init_children(self)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, lines_BHWC: Tensor, columns_B: Tensor | None = None) -> Tensor:
        tokens_BND = self.vit.narrow(lines_BHWC, columns_B)
        rows = self.vit.config.grid[0]
        columns = tokens_BND.shape[1] // rows
        tokens = tokens_BND.view(len(tokens_BND), rows, columns, -1)
        x = tokens.transpose(1, 2).flatten(2)  # [B, columns, rows * D]
        logits = self.head(x).float()  # [B, columns, cells * (1 + C)]
        return cast(Tensor, logits.reshape(len(x), -1, self.outputs))


def cells_of(vision: ViTConfig) -> int:
    """Cells in a row of a patch.

    Raises:
        ValueError: the patch size is no multiple of :data:`CELL`.
    """
    if vision.patch_size % CELL:
        raise ValueError(
            f"pages are found and read in cells of {CELL} pixels: patch_size {vision.patch_size} is no multiple"
        )
    return vision.patch_size // CELL


class Truth(NamedTuple):
    """What a finder should say; ``[B, h, w]``.

    Attributes:
        text: 1 where the middle of a line is, 0 elsewhere, -1 where nobody knows; int8.
        up, down: pixels to the top and the bottom of the line, float; 0 where there is none.
    """

    text: Tensor
    up: Tensor
    down: Tensor


def finding_loss(cells: Cells, truth: Truth) -> Tensor:
    """Loss of each image ``[B]``: cross-entropy of text or not, and 1 - IoU of the heights of lines.

    The mean over the cells that are known, and over those of lines; IoU is that of two intervals around the
    centre of a cell, as in EAST, which counts errors in small lines as much as in large ones.
    """
    known, line = (truth.text >= 0).float(), (truth.text > 0).float()
    unsure = F.binary_cross_entropy_with_logits(cells.logits, line, reduction="none") * known
    both = torch.minimum(cells.up, truth.up) + torch.minimum(cells.down, truth.down)
    either = torch.maximum(cells.up, truth.up) + torch.maximum(cells.down, truth.down)
    misplaced = (1 - both / either) * line
    return 4 * _mean(unsure, known) + _mean(misplaced, line)


def _mean(values_Bhw: Tensor, counted_Bhw: Tensor) -> Tensor:
    return values_Bhw.sum((1, 2)) / counted_Bhw.sum((1, 2)).clamp(min=1)


def reading_loss(logits_BTC: Tensor, widths_B: Tensor, targets_BL: Tensor) -> Tensor:
    """CTC's negative log-likelihood of each line ``[B]``; 0 for a line with more characters than columns.

    Args:
        logits_BTC: of blank and characters.
        widths_B: columns of each line; those after them are padding.
        targets_BL: numbers of the characters, counted from 1; padded with 0.
    """
    scores = F.log_softmax(logits_BTC.float(), -1).transpose(0, 1)
    lengths = (targets_BL > 0).sum(1)
    return F.ctc_loss(scores, targets_BL, widths_B, lengths, reduction="none", zero_infinity=True)


def best_path(logits_BTC: Tensor, widths_B: Tensor, most: int) -> Tensor:
    """The likeliest character of each column, repeats and blanks removed: numbers ``[B, most]``, padded with 0.

    The last is negative if there are more.
    """
    best = logits_BTC.argmax(-1)
    inside = torch.arange(best.shape[1], device=best.device) < widths_B[:, None]
    kept = inside & (best > 0) & (best != F.pad(best, (1, 0))[:, :-1])
    places = (kept.cumsum(1) - 1).clamp(max=most).masked_fill(~kept, most)
    written = best.new_zeros(len(best), most + 1).scatter_(1, places, best)
    written[:, most - 1] = torch.where(kept.sum(1) > most, -1, written[:, most - 1])
    return written[:, :most]
