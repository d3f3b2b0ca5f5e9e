"""What stage 0 may learn of named places in images, beside the loss of pairs: what is there, and how large it is.

SigLIP sees the pooled image only; these losses teach each patch token what stands there.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from openpali.model.collectives import gather_rows, gather_sizes, gather_with_gradient, world_and_rank
from openpali.model.losses import Embeddings

PADDING = -1  # no region
UNKNOWN = -2  # a box that may hold anything: its patches do not learn that nothing is there
_LEAST = 1e-3  # share of an image: no side is nearer to a patch


class Regions(NamedTuple):
    """Named places in the images of a batch: R regions, which share U names."""

    rows: Tensor  # the image of each region, int64 [R]
    boxes: Tensor  # (ymin, xmin, ymax, xmax) of each region as shares of the image, float [R, 4] in 0..1
    names: Tensor  # token ids of the names, int64 [U, L]; a name may occur more than once, and the last is empty
    named: Tensor  # the name of each region, an index below U, int64 [R]; PADDING and UNKNOWN have no loss
    # (y, x) of the centre of each patch as shares of its image, float [B, N, 2], below 0 for padding, if every
    # patch learns; None: the patch at the centre of each region
    points: Tensor | None = None

    @property
    def centres(self) -> Tensor:
        """(y, x) of each region's centre: ``[R, 2]``."""
        return self.boxes.view(-1, 2, 2).mean(1)


class Places(NamedTuple):
    """What is at P places: at the centre of each region, or at every patch."""

    region: Tensor  # the region that is there, int64 [P]; -1: none
    # of each place in a loss, float [P]. Those of a region add up to 1, and so do those of an image where no region
    # is. An image without regions has none: whether it shows things is not known
    weights: Tensor


def share_names(embeddings: Embeddings, regions: Regions) -> tuple[Embeddings, Regions]:
    """The names of all ranks, embedded where they come from, and indices into them for the regions. Collective.

    Every rank then compares its regions with the same names, so the loss does not depend on the number of ranks.
    Gradients of names are summed over ranks.

    Args:
        embeddings: with ``name``.
        regions: what they are embeddings of.
    """
    if embeddings.name is None:
        raise ValueError("these embeddings have no names: give the model regions as well as pairs")
    _, rank = world_and_rank()
    sizes = gather_sizes(len(regions.names))
    named = torch.where(regions.named >= 0, regions.named + sum(sizes[:rank]), regions.named)
    shared = regions._replace(names=gather_rows(regions.names, sizes), named=named)
    return embeddings._replace(name=gather_with_gradient(embeddings.name, sizes)), shared


@torch.no_grad()
def places_of(regions: Regions) -> Places:
    """What is at each place. A patch is part of the region whose centre it holds, so that the smallest thing has a
    patch, or else of the smallest region that its centre lies in."""
    if regions.points is None:
        real_R = regions.named >= 0
        return Places(torch.where(real_R, torch.arange(len(real_R), device=real_R.device), -1), real_R.float())
    held_RN, centre_RN = _held(regions, regions.points)
    region_BN = _owners(regions, held_RN, centre_RN)
    unknown_RN = held_RN & (regions.named == UNKNOWN)[:, None]
    unknown_BN = torch.zeros_like(region_BN).index_add(0, regions.rows, unknown_RN.long()) > 0
    free_BN = (regions.points >= 0).all(-1) & (region_BN < 0) & ~unknown_BN
    return Places(region_BN.flatten(), _weights(regions, region_BN, free_BN).flatten())


def _held(regions: Regions, points_BN2: Tensor) -> tuple[Tensor, Tensor]:
    """The patches of each region, whose centres lie in it or which hold its centre, and the latter alone; both bool
    ``[R, N]``."""
    shown_RN, points_RN2 = (points_BN2 >= 0).all(-1)[regions.rows], points_BN2[regions.rows]
    low_R2, high_R2 = regions.boxes.view(-1, 2, 2).unbind(1)
    within_RN = ((points_RN2 >= low_R2[:, None]) & (points_RN2 < high_R2[:, None])).all(-1)
    away_RN = (points_RN2 - regions.centres[:, None]).square().sum(-1).masked_fill(~shown_RN, torch.inf)
    centre_RN = torch.zeros_like(within_RN).scatter(1, away_RN.argmin(1, keepdim=True), True)
    return (within_RN | centre_RN) & shown_RN, centre_RN


def _owners(regions: Regions, held_RN: Tensor, centre_RN: Tensor) -> Tensor:
    """The region that each patch is part of, int64 ``[B, N]``; -1: none."""
    assert regions.points is not None
    real_R, numbers_R = regions.named >= 0, torch.arange(len(regions.named), device=held_RN.device)
    low_R2, high_R2 = regions.boxes.view(-1, 2, 2).unbind(1)
    area_RN = (high_R2 - low_R2).prod(1)[:, None].expand(held_RN.shape)
    # areas are at most 1: those of centres come first
    order_RN = torch.where(centre_RN, area_RN - 2, area_RN).masked_fill(~(held_RN & real_R[:, None]), torch.inf)
    rows_RN = regions.rows[:, None].expand_as(order_RN)
    first_BN = torch.full_like(regions.points[..., 0], torch.inf).scatter_reduce(0, rows_RN, order_RN, "amin")
    mine_RN = (order_RN == first_BN[regions.rows]) & order_RN.isfinite()
    chosen_RN = torch.where(mine_RN, numbers_R[:, None], -1)
    return torch.full_like(first_BN, -1, dtype=torch.long).scatter_reduce(0, rows_RN, chosen_RN, "amax")


def _weights(regions: Regions, region_BN: Tensor, free_BN: Tensor) -> Tensor:
    """See :class:`Places`; float ``[B, N]``. ``free_BN``: patches where nothing is, if the image has regions."""
    taken_BN, real_R = region_BN >= 0, (regions.named >= 0).to(regions.boxes.dtype)
    owner_BN = region_BN.clamp(min=0)
    patches_R = torch.zeros_like(real_R).index_add(0, owner_BN.flatten(), taken_BN.flatten().to(real_R.dtype))
    regions_B = real_R.new_zeros(len(region_BN)).index_add(0, regions.rows, real_R)
    alone_BN = free_BN & (regions_B > 0)[:, None]
    shares_BN = alone_BN / alone_BN.sum(1, keepdim=True).clamp(min=1)
    return shares_BN + taken_BN / patches_R[owner_BN].clamp(min=1)


def region_loss(
    embeddings: Embeddings, regions: Regions, places: Places, *, softmax: bool = False, chunk: int = 4096
) -> Tensor:
    """The sigmoid loss of places against names, summed over both; a name that occurs k times counts 1/k each time.
    Where no region is, no name is right.

    Args:
        embeddings: with ``region``, of each place, and ``name``.
        regions: what they are embeddings of.
        places: what is there (:func:`places_of`).
        softmax: the cross-entropy of each place over all names instead, summed over places. Where no region is, the
            last name is right: the empty text.
        chunk: places whose logits are in memory at a time.
    """
    if embeddings.region is None or embeddings.name is None:
        raise ValueError("these embeddings have no regions: give the model regions as well as pairs")
    numbers_U = _number(regions.names)
    times_U = torch.zeros_like(numbers_U).index_add(0, numbers_U, torch.ones_like(numbers_U))[numbers_U]
    own_P = torch.where(places.region >= 0, regions.named[places.region], -1)

    def of_some(region_CD: Tensor, name_UD: Tensor, own_C: Tensor, weights_C: Tensor) -> Tensor:
        logits_CU = region_CD @ name_UD.T * embeddings.log_temperature.exp()
        if softmax:
            each_C = (logits_CU - times_U.log()).logsumexp(1) - logits_CU.gather(1, own_C[:, None] % len(name_UD))[
                :, 0
            ]
        else:
            right_CU = (numbers_U[own_C][:, None] == numbers_U) & (own_C >= 0)[:, None]
            each_CU = F.binary_cross_entropy_with_logits(
                logits_CU + embeddings.bias, right_CU.float(), reduction="none"
            )
            each_C = (each_CU / times_U).sum(1)
        return (each_C * weights_C).sum()

    with torch.autocast(embeddings.region.device.type, enabled=False):
        region, name = embeddings.region.float(), embeddings.name.float()
        if len(region) <= chunk:
            return of_some(region, name, own_P, places.weights)
        parts = zip(*(torch.split(each, chunk) for each in (region, own_P, places.weights)), strict=True)
        some = [checkpoint(of_some, r, name, n, w, use_reentrant=False) for r, n, w in parts]
        return torch.stack(cast(list[Tensor], some)).sum()


def side_loss(embeddings: Embeddings, regions: Regions, places: Places) -> Tensor:
    """1 - GIoU of the boxes that patches of regions tell, summed; a region counts 1.

    Args:
        embeddings: with ``sides``, of every patch.
        regions: with ``points``.
        places: what is there (:func:`places_of`).
    """
    if embeddings.sides is None or regions.points is None:
        raise ValueError("these embeddings have no sides: train with sides and every patch of a region")
    points_P2 = regions.points.flatten(0, 1)
    boxes_P4 = regions.boxes[places.region]
    true_P4 = torch.cat((points_P2 - boxes_P4[:, :2], boxes_P4[:, 2:] - points_P2), -1).clamp(min=_LEAST)
    _, giou_P = overlap(embeddings.sides.float(), true_P4)
    return ((1 - giou_P) * places.weights * (places.region >= 0)).sum()


def overlap(one_N4: Tensor, other_N4: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU (arXiv 1902.09630) of boxes around the same points, ``[N]`` each; distances are at
    least 0, and no box is empty."""
    both, either = torch.minimum(one_N4, other_N4), torch.maximum(one_N4, other_N4)
    shared, hull, area, other = (
        (sides[:, 0] + sides[:, 2]) * (sides[:, 1] + sides[:, 3]) for sides in (both, either, one_N4, other_N4)
    )
    union = area + other - shared
    iou = (shared / union).clamp(0, 1)
    return iou, shared / union + union / hull - 1


def _number(rows_UL: Tensor) -> Tensor:
    """A number below U for each row, ``[U]``; the same for equal rows.

    ``torch.unique`` would make the host wait for the GPU, and comparing each row with each takes U x U x L bytes.
    """
    order = torch.arange(len(rows_UL), device=rows_UL.device)
    for column in reversed(rows_UL.unbind(1)):  # a radix sort
        order = order[column[order].argsort(stable=True)]
    differs = (rows_UL[order[1:]] != rows_UL[order[:-1]]).any(1)
    return torch.empty_like(order).index_copy(0, order, F.pad(differs.cumsum(0), (1, 0)))
