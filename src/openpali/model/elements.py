"""Finding the elements of a screen, such as buttons and icons: a head on patches and cells, no decoder.

For every role and every cell of 4 x 4 pixels it says whether such an element is there, and how far its four sides
are, as FCOS (arXiv 1904.01355) does on a CNN. Sides are of each role, since elements lie in each other: an icon in
a button. As in VarifocalNet (arXiv 2008.13367) the probability of an element is the IoU of its box.

Shapes: B batch, R roles, h w cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from openpali.model.pages import CELL, CellFinder
from openpali.model.vit import ViTConfig

_CHANNELS = 64  # of what is known of a cell
_GAMMA = 2.0  # of the focal loss (arXiv 1708.02002)
_ABSENT = 0.5  # weight of a cell without an element, beside that of one of an element of a single cell


@dataclass(frozen=True)
class ElementFinderConfig:
    """Shape of a finder of elements: that of its ViT, and the roles in the order of its outputs."""

    vision: ViTConfig
    roles: tuple[str, ...]


class ElementCells(NamedTuple):
    """What is said of every role and cell.

    Attributes:
        logits: ``[B, R, h, w]`` float, of the IoU of the box of ``sides`` with the element here, 0 if none is.
        sides: ``[B, R, 4, h, w]`` float, pixels from the centre of the cell up, left, down and right, above 0.
    """

    logits: Tensor
    sides: Tensor


class ElementFinder(CellFinder):
    """Images ``[B, H, W, 3]`` as for :class:`~openpali.model.pages.PageViT` -> :class:`ElementCells`."""

    def __init__(self, config: ElementFinderConfig) -> None:
        super().__init__(config.vision, _CHANNELS, 5 * len(config.roles))
        self.config = config

    def init_weights(self) -> None:
        super().init_weights()
        self.head.bias[: len(self.config.roles)] = -4.0  # most cells hold no element

    def forward(self, images_BHWC: Tensor) -> ElementCells:
        said = self.say(*self.vit(images_BHWC)).permute(0, 3, 1, 2)  # [B, 5 R, h, w]
        logits, sides = said.tensor_split((len(self.config.roles),), 1)
        sides = sides.reshape(said.shape[0], -1, 4, *said.shape[2:])
        return ElementCells(logits, 4 * CELL * sides.clamp(max=6).exp())


def element_loss(cells: ElementCells, which_BRhw: Tensor, boxes_BM4: Tensor) -> Tensor:
    """Loss of each image ``[B]``, for each of its elements: focal loss where no element is; and where one is, what
    its probability costs beyond that of the IoU of its box (cross-entropy), and 1 - GIoU.

    The boxes of elements count alike. A probability counts by cells, since a false element has as many as a true
    one, but less for those of large elements, which would outnumber the others.

    Args:
        cells: of the model.
        which_BRhw: number of the element that a cell is in, from 1 on; 0 where no element of the role is, and -1
            where nobody knows.
        boxes_BM4: each element's [ymin, xmin, ymax, xmax] in pixels of the image.
    """
    logits = cells.logits
    absent = (logits.sigmoid() ** _GAMMA * F.softplus(logits) * (which_BRhw == 0)).sum((1, 2, 3))
    image, role, row, column = (which_BRhw > 0).nonzero(as_tuple=True)
    number = which_BRhw[image, role, row, column].long() - 1
    sizes = torch.zeros_like(boxes_BM4[..., 0]).index_put_(  # [B, M]: cells of each
        (image, number), torch.ones_like(image, dtype=boxes_BM4.dtype), accumulate=True
    )
    said = cells.sides[image, role, :, row, column]  # [n, 4]
    centre = (torch.stack((row, column), -1) * CELL + CELL / 2).to(boxes_BM4.dtype)
    edges = boxes_BM4[image, number]
    iou, giou = _overlap(said, torch.cat((centre - edges[:, :2], edges[:, 2:] - centre), -1))
    iou = iou.detach()
    own = F.binary_cross_entropy_with_logits(logits[image, role, row, column], iou, reduction="none")
    own = own - torch.special.entr(iou) - torch.special.entr(1 - iou)
    of_each = sizes[image, number]
    missed = own / of_each.sqrt() + (1 - giou) / of_each
    return (_ABSENT * absent).index_add(0, image, missed) / (sizes > 0).sum(1).clamp(min=1)


def _overlap(one_N4: Tensor, other_N4: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU (arXiv 1902.09630) of boxes around the same points, by the distances of their
    sides."""
    both, either = torch.minimum(one_N4, other_N4), torch.maximum(one_N4, other_N4)
    shared, hull, area, other = (
        (sides[:, 0] + sides[:, 2]) * (sides[:, 1] + sides[:, 3]) for sides in (both, either, one_N4, other_N4)
    )
    union = area + other - shared
    iou = (shared / union).clamp(0, 1)  # a cell's centre may lie beyond the edge of a narrow element
    return iou, shared / union + union / hull - 1
