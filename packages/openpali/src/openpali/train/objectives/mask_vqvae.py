"""``mask_vqvae``: masks of objects to 16 codes and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
import torch
import torch.nn.functional as F

from openpali.architectures.mask_vqvae import MaskVQVAE, MaskVQVAEConfig
from openpali.data.media.native import AnyPreprocess
from openpali.data.pipeline.encode import Arrays, Batch, Encoder, stack
from openpali.tasks.base import Task
from openpali.tasks.example import Example
from openpali.tasks.refseg import crop_mask
from openpali.train.objectives.base import Lengths, Losses, Objective
from openpali.train.recipe import ParallelSpec, PhaseSpec, Recipe
from openpali.train.shapes import shape_of


class MaskRecipe(Recipe):
    """The mask VQ-VAE: masks of objects to 16 tokens and back. Its entries have the task ``refseg``."""

    def problems(self) -> Iterator[str]:
        if self.micro > 1:
            yield (
                f"micro = {self.micro} would update the codebook several times in a step: "
                'objective = "mask_vqvae" needs micro = 1'
            )
        if self.parallel != ParallelSpec():
            yield (
                'objective = "mask_vqvae" has no transformer blocks to shard, checkpoint or compile: '
                "remove the parallel table"
            )
        if self.ema:
            yield (
                "ema averages the encoder, but not the codebook, which would no longer fit it: "
                'objective = "mask_vqvae" needs ema = 0'
            )


@dataclass(frozen=True)
class MaskEncoder:
    """The mask of a random object for the VQ-VAE: ``masks [B, 64, 64]`` float in 0..1, cropped to its box."""

    def encode(self, example: Example, task: Task, preprocess: AnyPreprocess, rng: np.random.Generator) -> Arrays:
        objects = [o for o in example.objects if o.mask is not None]
        if not objects:
            raise ValueError(f"sample {example.key} has no object with a mask")
        chosen = objects[int(rng.integers(len(objects)))]
        assert chosen.mask is not None
        return {"masks": crop_mask(chosen.mask, chosen.box)}

    def collate(self, samples: Sequence[Arrays]) -> Batch:
        return stack(samples)


class MaskObjective(Objective[MaskRecipe]):
    """Reconstruction of masks from their codes."""

    recipe_class: ClassVar[type[Recipe]] = MaskRecipe

    def configure(self) -> MaskVQVAEConfig:
        shape: MaskVQVAEConfig = shape_of(self.recipe, "mask_vqvae")
        return shape

    def make_encoder(self) -> Encoder:
        return MaskEncoder()

    def losses(self, batch: Batch, total_weight: float) -> Losses:
        masks = batch["masks"]
        out = cast(MaskVQVAE, self.model)(masks)
        rows = F.binary_cross_entropy_with_logits(4 * out.masks, masks, reduction="none").mean((1, 2))
        total = (rows.sum() + out.commitment * len(masks)) / total_weight
        inside, truth = out.masks > 0, masks > 0.5
        iou = (inside & truth).sum((1, 2)) / (inside | truth).sum((1, 2)).clamp(min=1)
        codes = torch.tensor(float(len(out.codes.unique())))
        return Losses(total, rows.detach(), {"iou": iou.mean(), "codes": codes})

    def example_batch(self, phase: PhaseSpec, rows: int, lengths: Lengths) -> Batch:
        return {"masks": torch.zeros(rows, 64, 64)}
