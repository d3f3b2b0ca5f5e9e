"""Finding and reading text with an image encoder alone: a head on its patches, no decoder.

The finder looks at a page at small scale. For every cell of 4 x 4 pixels it says whether the middle of a line of
text is there, and how far the line reaches up and down, as EAST (arXiv 1704.03155) and DB (arXiv 1911.08947) do on
a CNN. The reader looks at one line at large scale, and names a character for every few pixels, with CTC
(Graves et al. 2006; SVTR, arXiv 2205.00159). Both see an image as patches and as cells: :class:`PageViT`.

Shapes: B batch, H W pixels, h w cells, N patches, D width, T columns, C characters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openpali.model.init import init_children
from openpali.model.layers import Conv2d, Linear
from openpali.model.vit import LAYER_NORM_EPS, ViT, ViTConfig, scaled

CELL = 4
"""Pixels of a cell's side."""
PATCH = 16
"""Pixels of a patch's side: what four convolutions of stride 2 make of an image."""
CELLS = PATCH // CELL
"""Cells in a row of a patch."""
_CHANNELS = (32, 64, 128)  # of the convolutions; the second sees cells
_CELL_CHANNELS = 32  # of what the finder knows of a cell
_COLUMN_CHANNELS = 192  # of what the reader knows of a column


class Stem(nn.Module):
    """Convolutions in place of a linear patch embedding: small models learn faster (arXiv 2106.14881).

    Pixels ``[B, H, W, 3]`` in -1..1 -> features of each cell ``[B, h, w, 64]``, and of each patch ``[B, H / 16, W /
    16, D]``.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = (3, *_CHANNELS, width)
        self.convolutions = nn.ModuleList(Conv2d(a, b, 3, 2, 1) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(nn.LayerNorm(size, eps=LAYER_NORM_EPS) for size in _CHANNELS)

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
        self.around = Conv2d(_CHANNELS[1], _CELL_CHANNELS, 3, padding=1)
        self.head = Linear(_CELL_CHANNELS, len(Cells._fields))

    def init_weights(self) -> None:
        init_children(self)
        nn.init.normal_(self.head.weight, std=0.05)
        nn.init.zeros_(self.head.bias)
        self.head.bias[0] = -2.0  # most cells hold no text

    def forward(self, images_BHWC: Tensor) -> Cells:
        return self.judge(*self.vit(images_BHWC))

    def judge(self, tokens: Tensor, cells: Tensor) -> Cells:
        """The second half of ``forward``: cells from what the ViT returns."""
        seen = self.within(tokens).unflatten(-1, (CELLS, CELLS, -1)).transpose(2, 3)
        seen = seen.flatten(3, 4).flatten(1, 2)  # [B, h, w, 32]
        seen = seen + self.around(cells.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        said = self.head(F.gelu(seen)).float()  # [B, h, w, 3]
        logits, up, down = said.unbind(-1)
        return Cells(logits, 2 * CELL * up.exp(), 2 * CELL * down.exp())


@dataclass(frozen=True)
class ReaderConfig:
    """Shape of a reader.

    Attributes:
        vision: of its ViT. The rows of its grid make the height of a line, its columns the widest line.
        characters: what it can write, in the order of its outputs; the first is the space.
        steps: columns of a patch for which it names a character, a multiple of 4. CTC needs three for "ll", which
            is 10 pixels wide in a line of 32.
    """

    vision: ViTConfig
    characters: tuple[str, ...]
    steps: int = CELLS


class Reader(nn.Module):
    """Lines ``[B, H, W, 3]`` as for :class:`PageViT` -> logits ``[B, T, 1 + C]`` of nothing (CTC's blank) and each
    character; T is ``steps`` for each patch."""

    def __init__(self, config: ReaderConfig) -> None:
        super().__init__()
        self.config = config
        self.vit = PageViT(config.vision)
        rows = config.vision.grid[0]
        self.within = Linear(rows * config.vision.width, config.steps * _COLUMN_CHANNELS)
        self.around = Linear(rows * CELLS * _CHANNELS[1], config.steps // CELLS * _COLUMN_CHANNELS)
        self.head = Linear(_COLUMN_CHANNELS, 1 + len(config.characters))

    def init_weights(self) -> None:
        init_children(self)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, lines_BHWC: Tensor, columns_B: Tensor | None = None) -> Tensor:
        tokens, cells = self.vit(lines_BHWC, columns_B)  # [B, rows, columns, D], [B, h, w, 64]
        seen, around = self.within(tokens.transpose(1, 2).flatten(2)), self.around(cells.transpose(1, 2).flatten(2))
        seen, around = (each.unflatten(-1, (-1, _COLUMN_CHANNELS)).flatten(1, 2) for each in (seen, around))
        seen = seen + around  # [B, T, 192]
        return cast(Tensor, self.head(F.gelu(seen)).float())


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


def placing_loss(logits_BTC: Tensor, places_BL: Tensor, targets_BL: Tensor) -> Tensor:
    """Negative log-likelihood of characters near their places, mean of each line ``[B]``.

    CTC alone takes long to find out which column shows which character. Places are known to a column or so:
    each character should be written in one of three.

    Args:
        logits_BTC: of blank and characters.
        places_BL: column of each character; negative where nobody knows.
        targets_BL: as for :func:`reading_loss`.
    """
    scores = F.log_softmax(logits_BTC.float(), -1)
    rows = torch.arange(len(scores), device=scores.device)[:, None]
    near = [
        scores[rows, (places_BL + step).clamp(0, scores.shape[1] - 1), targets_BL] for step in (-1, 0, 1)
    ]  # 3 x [B, L]
    known = (places_BL >= 0).float()
    missed = math.log(len(near)) - torch.stack(near).logsumexp(0)
    return (missed * known).sum(1) / known.sum(1).clamp(min=1)


def best_path(logits_BTC: Tensor, widths_B: Tensor, most: int) -> Tensor:
    """The most probable character of each column, repeats and blanks removed: numbers ``[B, most]``, padded with 0.

    The last is negative if there are more.
    """
    best = logits_BTC.argmax(-1)
    inside = torch.arange(best.shape[1], device=best.device) < widths_B[:, None]
    kept = inside & (best > 0) & (best != F.pad(best, (1, 0))[:, :-1])
    places = (kept.cumsum(1) - 1).clamp(max=most).masked_fill(~kept, most)
    written = best.new_zeros(len(best), most + 1).scatter_(1, places, best)
    written[:, most - 1] = torch.where(kept.sum(1) > most, -1, written[:, most - 1])
    return written[:, :most]
