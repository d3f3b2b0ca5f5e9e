"""Images in their own proportions, as patches on grids of their own: SigLIP 2's NaFlex (arXiv 2502.14786).

Shapes: B batch, F frames, N patches of an image with its padding, P values of a patch, D width.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor


class Patches(NamedTuple):
    """Images that are cut into patches and padded to the same number of them.

    Attributes:
        values: ``[B, N, P]``, uint8 in 0..255 or float in -1..1; P is patch * patch * 3, as the ViT cuts patches,
            row-major over the grid. Patches after those of the grid are padding, of any value.
        grids: rows and columns of each image, int64 ``[B, 2]``; at least 1, and their product is at most N.

    Frames of rows are ``[B, F, N, P]`` and ``[B, F, 2]``.
    """

    values: Tensor
    grids: Tensor

    @property
    def shape(self) -> torch.Size:
        """As that of images of one size: dimensions of the batch come first."""
        return self.values.shape

    def flatten(self, first: int, last: int) -> Patches:
        """Join dimensions of the batch, as :meth:`torch.Tensor.flatten`."""
        return Patches(self.values.flatten(first, last), self.grids.flatten(first, last))


Images: TypeAlias = Tensor | Patches
"""What a ViT takes: images of one size ``[B, H, W, 3]``, or patches of images of many sizes."""


def real_patches(images: Images) -> Tensor | None:
    """Which patches are no padding: bool ``[B, N]``, or ``[B, F, N]`` of frames; None: all."""
    if isinstance(images, Tensor):
        return None
    return real_places(images.grids, images.shape[-2])


def real_places(grids: Tensor, length: int) -> Tensor:
    """Which of ``length`` places are on each grid ``[..., 2]``, whose patches come first: bool ``[..., N]``."""
    return torch.arange(length, device=grids.device) < grids.prod(-1, keepdim=True)


def visible(images: Images) -> Tensor | None:
    """Which patches may be seen, as attention takes it: bool ``[B, 1, 1, N]``; None: all."""
    real_BN = real_patches(images)
    return None if real_BN is None else real_BN[:, None, None]


def positions_on(grids_B2: Tensor, length: int, table_MD: Tensor, table_grid: tuple[int, int]) -> Tensor:
    """Position embeddings of the patches of each image: a table of them, resampled to each image's grid.

    Bilinear and antialiased, corners not aligned, as transformers' `modeling_siglip2.py` does: torch's
    ``F.interpolate(antialias=True)``, which takes one grid at a time. Identity at the grid of the table.

    Args:
        grids_B2: rows and columns of each image, int64.
        length: N, at least the patches of each grid; the embeddings of padding mean nothing, but are finite.
        table_MD: float, row-major over ``table_grid``, which is (rows, columns).

    Returns:
        ``[B, N, D]`` in the dtype of the table.
    """
    places_N = torch.arange(length, device=grids_B2.device)
    rows_B1, columns_B1 = grids_B2[:, :1], grids_B2[:, 1:]
    row_BN = torch.minimum(places_N // columns_B1, rows_B1 - 1)
    by_row = _bilinear(row_BN, rows_B1, table_grid[0])  # [B, N, table rows]
    by_column = _bilinear(places_N % columns_B1, columns_B1, table_grid[1])  # [B, N, table columns]
    weights_BNM = (by_row[..., :, None] * by_column[..., None, :]).flatten(2)
    with torch.autocast(table_MD.device.type, enabled=False):  # positions are added in float32
        return (weights_BNM @ table_MD.float()).to(table_MD.dtype)


def _bilinear(places_BN: Tensor, sizes_B1: Tensor, size: int) -> Tensor:
    """Weights of ``size`` samples at places along an axis of so many, float32 ``[B, N, size]``; their sum is 1."""
    step_B1 = size / sizes_B1.float()
    centres_BN = (places_BN + 0.5) * step_B1 - 0.5
    samples = torch.arange(size, device=places_BN.device)
    distances = (samples - centres_BN[..., None]).abs() / step_B1.clamp(min=1)[..., None]
    weights = (1 - distances).clamp(min=0)
    return weights / weights.sum(-1, keepdim=True)
