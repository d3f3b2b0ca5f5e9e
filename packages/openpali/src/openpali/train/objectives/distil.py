"""Distillation, added to the loss of pairs: patch tokens, through a linear map, match those of a frozen teacher, by
cosine. AM-RADIO (arXiv 2312.06709) learns patch tokens of teachers by a cosine, among other losses.

Neither teacher nor map is part of the exported model.
Shapes: B images, H W pixels, N patches, D width of the teacher.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from openpali.architectures.base import vision_of
from openpali.model.patches import Images, Patches
from openpali.model.vit import ViT, ViTConfig, cut, scaled
from openpali.weights.bundle import main_part
from openpali.weights.find import find_model
from openpali.weights.format import open_model


def teacher_of(name: str, student: ViTConfig, *, native: bool) -> ViT:
    """The image encoder of a run or model folder, without values, frozen.

    Args:
        native: the student's images keep their proportions.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: it has no ViT, or one that cannot see the student's patches.
    """
    try:
        shape = vision_of(open_model(main_part(find_model(name))).config)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"teacher: {error}") from error
    if not isinstance(shape, ViTConfig):
        raise ValueError(f"teacher = {name!r} has no ViT, whose patch tokens a student could learn: name another")
    if native and shape.patch_size != student.patch_size:
        raise ValueError(
            f"teacher = {name!r} has patches of {shape.patch_size} pixels and the student of {student.patch_size}: "
            "set size instead of tokens in each phase, or name another teacher"
        )
    return ViT(shape).requires_grad_(False)


def as_patches(images: Images, patch: int, teacher: ViT) -> Patches:
    """Images of a student, with patches of ``patch`` pixels, as its teacher takes them: on the same grid.

    Images of one size are resampled to the teacher's patch size: bilinear, antialiased.
    """
    if not isinstance(images, Tensor):
        return images
    pixels_BHWC, size = scaled(images, torch.float32), teacher.config.patch_size
    grid = images.shape[1] // patch, images.shape[2] // patch
    if size != patch:
        sides = [size * count for count in grid]
        pixels_BCHW = F.interpolate(pixels_BHWC.movedim(-1, 1), sides, mode="bilinear", antialias=True)
        pixels_BHWC = pixels_BCHW.movedim(1, -1)
    return Patches(cut(pixels_BHWC, size), torch.tensor(grid, device=images.device).expand(len(images), -1))


def distillation_loss(mapped_BND: Tensor, teacher_BND: Tensor, real_BN: Tensor | None) -> Tensor:
    """1 - the cosine of the angle between tokens, 0..2: the mean over each image's patches, summed over images.

    Args:
        mapped_BND: tokens of the student, mapped to the teacher's width.
        teacher_BND: the teacher's.
        real_BN: which of them are no padding; None: all.
    """
    away_BN = 1 - F.cosine_similarity(mapped_BND.float(), teacher_BND.float(), dim=-1)
    if real_BN is None:
        return away_BN.mean(1).sum()
    return (away_BN * real_BN / real_BN.sum(1, keepdim=True)).sum()
