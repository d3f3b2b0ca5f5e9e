"""Finding the elements of a screen, such as buttons and icons: what each proposal is, and how far it reaches.

A proposal (:mod:`openpali_screen.elements.proposals`) is a token: how it looks, and where it is. Tokens of a screen
attend to each other: a link is one of a column of links. For every role a token says whether such an element is
there, and how far its four sides are, as the cells of FCOS do (arXiv 1904.01355): of each role, since elements lie
in each other, an icon in a button. As in VarifocalNet (arXiv 2008.13367) the probability of an element is the IoU
of its box.

Shapes: B screens, T proposals of all, P of one, R roles, M elements of all, S side of a view, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openpali.model.init import init_children
from openpali.model.layers import Conv2d, Embedding, Linear
from openpali.model.regions import overlap
from openpali.model.vit import MLP, Transformer, scaled
from openpali_screen.elements.proposals import KINDS, VIEWS
from openpali_screen.geometry import Image
from openpali_screen.networks import ElementNetwork, Floats, Ints
from openpali_screen.vit import array_of, tensor_on

_PAIRS = 2  # views in each group: of all of it, of its ends, of what is beside it
_CHANNELS = (3, 24, 48, 96)  # of the convolutions, each of stride 2
_SCREEN = 800.0, 1400.0  # height and width of a usual screen in pixels, by which places are measured
_TEXT = 20.0  # height of a usual line in pixels, by which sizes are measured
_WAVES = 4  # of a place or a size: 1, 2, 4, 8 halves of it
_NARROW = 3.0  # least half side of a proposal in pixels, by which distances are measured
_GAMMA = 2.0  # of the focal loss (arXiv 1708.02002)
_ABSENT = 0.5  # weight of a proposal without an element, beside one with


@dataclass(frozen=True)
class ElementFinderConfig:
    """Shape of a finder of elements.

    Attributes:
        side: of a view in pixels, a multiple of 8.
        width, depth, mlp_dim, heads: of the transformer.
        roles: in the order of its outputs.
    """

    side: int
    width: int
    depth: int
    mlp_dim: int
    heads: int
    roles: tuple[str, ...]


class Found(NamedTuple):
    """Outputs for every proposal and role.

    Attributes:
        logits: ``[T, R]`` float, of the IoU of the box of ``sides`` with the element here, 0 if none is.
        sides: ``[T, R, 4]`` float, pixels from the centre of the proposal up, left, down and right, above 0.
    """

    logits: Tensor
    sides: Tensor

    def boxes(self, boxes_T4: Tensor) -> Tensor:
        """Boxes of elements ``[T, R, 4]`` by those of the proposals."""
        centre = _centres(boxes_T4)[:, None]
        return torch.cat((centre - self.sides[..., :2], centre + self.sides[..., 2:]), -1)


class ElementFinder(nn.Module):
    """Proposals -> :class:`Found`.

    ``forward`` takes views ``[T, 6, S, S, 3]`` uint8, kinds ``[T]`` and boxes ``[T, 4]`` in pixels, of one screen
    after another; the proposals of each screen, ``counts_B``; and their heights and widths ``sizes_B2`` in pixels.
    """

    def __init__(self, config: ElementFinderConfig) -> None:
        super().__init__()
        self.config = config
        seen = _CHANNELS[-1] * (config.side // 2 ** (len(_CHANNELS) - 1)) ** 2
        self.convolutions = nn.ModuleList(Conv2d(a, b, 3, 2, 1) for a, b in pairwise(_CHANNELS))
        self.looks = Linear(_PAIRS * seen, config.width)
        self.ends = Linear(_PAIRS * seen, config.width)
        self.beside = Linear(_PAIRS * seen, config.width)
        self.kind = Embedding(len(KINDS), config.width)
        self.place = MLP(8 + 12 * _WAVES, config.width, config.width, exact=True)
        self.encoder = Transformer(config.width, config.depth, config.mlp_dim, config.heads, exact=True)
        self.head = MLP(config.width, 2 * config.width, 5 * len(config.roles), exact=True)

    def init_weights(self) -> None:
        init_children(self)
        nn.init.zeros_(self.beside.weight)
        nn.init.normal_(self.kind.weight, std=0.5)
        nn.init.normal_(self.head.down.weight, std=0.01)
        self.head.down.bias[: len(self.config.roles)] = -3.5  # most proposals are no element of a role

    def forward(
        self, views_T: Tensor, kinds_T: Tensor, boxes_T4: Tensor, counts_B: Tensor, sizes_B2: Tensor
    ) -> Found:
        known_TD = self.embed(views_T, kinds_T, boxes_T4, sizes_B2.repeat_interleave(counts_B, 0))
        real_BP = torch.arange(int(counts_B.max()), device=counts_B.device) < counts_B[:, None]
        x_BPD = known_TD.new_zeros(*real_BP.shape, known_TD.shape[-1])
        x_BPD[real_BP] = known_TD
        return self.run_head(self.run_encoder(x_BPD, real_BP)[real_BP], boxes_T4)

    def embed(self, views_T: Tensor, kinds_T: Tensor, boxes_T4: Tensor, sizes_T2: Tensor) -> Tensor:
        """Embed each proposal by itself: ``[T, D]``."""
        x = scaled(views_T, self.looks.weight.dtype).flatten(0, 1).permute(0, 3, 1, 2)  # [6 T, 3, S, S]
        for convolution in self.convolutions:
            x = F.gelu(convolution(x))
        whole, ends, beside = x.reshape(kinds_T.shape[0], VIEWS // _PAIRS, -1).unbind(1)
        looks = self.looks(whole) + self.ends(ends) + self.beside(beside)
        place = self.place(_places(boxes_T4, sizes_T2).to(x.dtype))
        return cast(Tensor, looks + self.kind(kinds_T) + place)

    def run_encoder(self, x_BPD: Tensor, real_BP: Tensor | None = None) -> Tensor:
        """Self-attention among the proposals of a screen; those that are not ``real`` are padding."""
        mask = None if real_BP is None else real_BP[:, None, None]
        return cast(Tensor, self.encoder(x_BPD, mask=mask))

    def run_head(self, x_TD: Tensor, boxes_T4: Tensor) -> Found:
        """Logits and sides of proposals that have attended to each other."""
        outputs = self.head(x_TD).float()
        logits, sides = outputs.tensor_split((len(self.config.roles),), -1)
        half = ((boxes_T4[:, 2:] - boxes_T4[:, :2]) / 2).clamp(min=_NARROW).repeat(1, 2)[:, None]
        return Found(logits, half * sides.unflatten(-1, (-1, 4)).clamp(-4, 5).exp())


def _centres(boxes: Tensor) -> Tensor:
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def _places(boxes_T4: Tensor, sizes_T2: Tensor) -> Tensor:
    """Where boxes are in their screens, and how large: numbers around 1 and waves of them, ``[T, 8 + 12 W]``."""
    usual = boxes_T4.new_tensor(_SCREEN)
    centres, sizes = _centres(boxes_T4), (boxes_T4[:, 2:] - boxes_T4[:, :2]).clamp(min=1)
    large = (sizes / _TEXT).log()
    beyond = (sizes_T2 - centres) / usual
    shares = centres / sizes_T2
    waves = torch.cat((centres / usual, large / 3, shares), -1)[..., None]  # [T, 6, 1]
    angles = waves * (math.pi * 2 ** torch.arange(_WAVES, device=waves.device))  # [T, 6, W]
    numbers = (beyond, large, sizes / sizes_T2, sizes_T2 / usual)
    return torch.cat((*numbers, angles.sin().flatten(1), angles.cos().flatten(1)), -1)


def element_loss(found: Found, boxes_T4: Tensor, counts_B: Tensor, which_TR: Tensor, elements_M4: Tensor) -> Tensor:
    """Loss of each screen ``[B]``, for each of its elements: focal loss where no element is; and where one is, what
    its probability costs beyond that of the IoU of its box (cross-entropy), and 1 - GIoU.

    The boxes of elements count alike. A probability counts by proposals, but less for those of elements with many,
    which would outnumber the others.

    Args:
        found: by the model.
        boxes_T4: of the proposals.
        counts_B: proposals of each screen.
        which_TR: number of the element that a proposal is in, from 1 on; 0 where no element of the role is.
        elements_M4: boxes of the elements of all screens, in pixels.
    """
    logits, screens = found.logits, len(counts_B)
    screen_T = torch.arange(screens, device=counts_B.device).repeat_interleave(counts_B)
    absent = (logits.sigmoid() ** _GAMMA * F.softplus(logits) * (which_TR == 0)).sum(1)
    proposal, role = (which_TR > 0).nonzero(as_tuple=True)
    number = which_TR[proposal, role].long() - 1
    sizes_M = torch.zeros_like(elements_M4[:, 0]).index_add(
        0, number, torch.ones_like(number, dtype=elements_M4.dtype)
    )
    of_each = sizes_M[number]
    edges, centre = elements_M4[number], _centres(boxes_T4)[proposal]
    true = torch.cat((centre - edges[:, :2], edges[:, 2:] - centre), -1)
    iou, giou = overlap(found.sides[proposal, role], true.clamp(min=0.01))
    iou = iou.detach()
    own = F.binary_cross_entropy_with_logits(logits[proposal, role], iou, reduction="none")
    own = own - torch.special.entr(iou) - torch.special.entr(1 - iou)
    missed = own / of_each.sqrt() + (1 - giou) / of_each
    total = logits.new_zeros(screens).index_add(0, screen_T, _ABSENT * absent)
    total = total.index_add(0, screen_T[proposal], missed)
    elements_B = logits.new_zeros(screens).index_add(0, screen_T[proposal], 1 / of_each)
    return total / elements_B.clamp(min=1)


def elements_of(module: ElementFinder) -> ElementNetwork:
    @torch.inference_mode()
    def run(views: Image, kinds: Ints, boxes: Floats, size: Floats) -> tuple[Floats, Floats]:
        seen, kind, places, counts, sizes = (
            tensor_on(each, module) for each in (views, kinds, boxes, np.array([len(kinds)]), size)
        )
        found = module(seen, kind, places, counts, sizes)
        return array_of(found.logits.sigmoid()), array_of(found.sides)

    return ElementNetwork(module.config.side, module.config.roles, run)
