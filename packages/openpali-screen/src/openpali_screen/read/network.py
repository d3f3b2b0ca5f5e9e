"""Reading a line of text with an image encoder alone: a character for every few pixels, no decoder.

The reader looks at one line at large scale, and is trained with CTC (Graves et al. 2006; SVTR, arXiv 2205.00159).

Shapes: B batch, H W pixels, h w cells, D width, T columns, C characters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openpali.model.init import init_children
from openpali.model.layers import Linear
from openpali.model.vit import ViTConfig
from openpali_screen.geometry import Image, Size
from openpali_screen.networks import Floats, Ints, ReaderNetwork
from openpali_screen.vit import CELLS, CHANNELS, PageViT, array_of, tensor_on

_COLUMN_CHANNELS = 192  # of what the reader knows of a column


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
        self.around = Linear(rows * CELLS * CHANNELS[1], config.steps // CELLS * _COLUMN_CHANNELS)
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


def reader_of(module: Reader) -> ReaderNetwork:
    @torch.inference_mode()
    def run(lines: Image, columns: Ints) -> Floats:
        return array_of(module(tensor_on(lines, module), tensor_on(columns, module)).softmax(-1))

    shape = module.config
    return ReaderNetwork(Size(*module.vit.config.image_size), shape.steps, shape.characters, run)
