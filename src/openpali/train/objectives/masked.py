"""A loss of the image encoder beside that of pairs: where patches are hidden, it predicts its own tokens of the
whole image, as SILC (arXiv 2310.13355) and TIPS (arXiv 2410.16512) do.

Their teacher is a moving average of the encoder. Here it is the encoder itself, without gradients, and a small
network predicts its tokens (SimSiam, arXiv 2011.10566); the loss of pairs keeps tokens apart. The network is not
exported.
Shapes: B images, H W pixels, N patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from openpali.data.media.native import AnyPreprocess
from openpali.data.pipeline.encode import Arrays, Batch, Encoder
from openpali.model.patches import Images
from openpali.tasks.base import Task
from openpali.tasks.example import Example

HIDDEN = 2  # one patch of so many is hidden


@dataclass(frozen=True)
class HidingEncoder:
    """The batches of another encoder, with ``hidden [B, N]`` bool: half of the patches of each image.

    Attributes:
        patch: its side in pixels.
    """

    inner: Encoder
    patch: int

    def encode(self, example: Example, task: Task, preprocess: AnyPreprocess, rng: np.random.Generator) -> Arrays:
        arrays = self.inner.encode(example, task, preprocess, rng)
        images, grids = arrays["images"], arrays.get("grids")
        sides = np.array(images.shape[:2]) // self.patch if grids is None else grids
        real = int(np.prod(sides))
        hidden = np.zeros(real if grids is None else len(images), bool)
        hidden[rng.permutation(real)[: max(1, real // HIDDEN)]] = True
        return {**arrays, "hidden": hidden}

    def collate(self, samples: Sequence[Arrays]) -> Batch:
        batch = self.inner.collate([{key: s[key] for key in s if key != "hidden"} for s in samples])
        return {**batch, "hidden": torch.from_numpy(np.stack([s["hidden"] for s in samples]))}


def hide(images: Images, hidden_BN: Tensor, patch: int) -> Images:
    """The images with patches that are hidden in grey.

    Args:
        patch: side of a patch in pixels.
    """
    if not isinstance(images, Tensor):
        return images._replace(values=_grey(images.values, hidden_BN[..., None]))
    rows = images.shape[1] // patch
    hidden_BHW = hidden_BN.view(len(hidden_BN), rows, -1).repeat_interleave(patch, 1).repeat_interleave(patch, 2)
    return _grey(images, hidden_BHW[..., None])


def _grey(values: Tensor, where: Tensor) -> Tensor:
    return values.masked_fill(where, 0 if values.is_floating_point() else 128)


def example_hidden(rows: int, patches: int) -> Batch:
    """What :class:`HidingEncoder` adds to a batch, for plans."""
    return {"hidden": torch.ones(rows, patches, dtype=torch.bool)}
