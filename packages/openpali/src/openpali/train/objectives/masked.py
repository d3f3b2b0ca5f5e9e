"""Two losses of the image encoder beside that of pairs, as in SILC (arXiv 2310.13355) and TIPS (arXiv 2410.16512):
where patches are hidden, it predicts what it sees there in the whole image (masked prediction), and from a part of
an image the embedding of the whole (self-distillation).

Both compare soft choices among prototypes, as DINO and iBOT do. The teacher is the encoder itself, without
gradients; only the heads that choose have a moving average, which saves a second encoder. The loss of pairs keeps
the encoder from giving the same for all images. Heads are not exported.
Shapes: B images, H W pixels, N patches, M patches of a part, D width, K prototypes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openpali.data.media.native import AnyPreprocess
from openpali.data.pipeline.encode import Arrays, Batch, Encoder
from openpali.model.collectives import sum_over_ranks
from openpali.model.init import init_children
from openpali.model.patches import Images, Patches
from openpali.model.vit import MLP, ViTConfig, cut
from openpali.tasks.base import Task
from openpali.tasks.example import Example

HIDDEN = 2  # one patch of so many is hidden
PROTOTYPES = 1024
MOMENTUM = 0.99  # of the average of a head, per step
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.05  # DINO's are .1 and .04 to .07
ADDED = "hidden", "part", "part_grids"


@dataclass(frozen=True)
class HidingEncoder:
    """The batches of another encoder, with what the student sees of each image.

    ``hidden [B, N]`` bool: half of its patches. ``part [B, M]`` int64 and ``part_grids [B, 2]``: the patches of a
    rectangle of half its rows and columns, with padding after them.

    Attributes:
        patch: its side in pixels.
    """

    inner: Encoder
    patch: int

    def encode(self, example: Example, task: Task, preprocess: AnyPreprocess, rng: np.random.Generator) -> Arrays:
        arrays = self.inner.encode(example, task, preprocess, rng)
        images, grids = arrays["images"], arrays.get("grids")
        rows, columns = np.array(images.shape[:2]) // self.patch if grids is None else grids
        real = int(rows * columns)
        hidden = np.zeros(real if grids is None else len(images), bool)
        hidden[rng.permutation(real)[: max(1, real // HIDDEN)]] = True
        sides = max(1, rows // 2), max(1, columns // 2)
        top, left = rng.integers(rows - sides[0] + 1), rng.integers(columns - sides[1] + 1)
        numbers = np.arange(real).reshape(rows, columns)[top : top + sides[0], left : left + sides[1]].ravel()
        part = np.zeros(len(numbers) if grids is None else part_length(len(images)), np.int64)
        part[: len(numbers)] = numbers
        return {**arrays, "hidden": hidden, "part": part, "part_grids": np.array(sides, np.int64)}

    def collate(self, samples: Sequence[Arrays]) -> Batch:
        batch = self.inner.collate([{key: s[key] for key in s if key not in ADDED} for s in samples])
        return {**batch, **{key: torch.from_numpy(np.stack([s[key] for s in samples])) for key in ADDED}}


class Head(nn.Module):
    """Scores of prototypes, cosines: ``[..., D] -> [..., K]`` float32."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.mlp = MLP(config.width, config.mlp_dim)
        self.prototypes = nn.Parameter(torch.empty(PROTOTYPES, config.width))

    def init_weights(self) -> None:
        init_children(self)
        nn.init.normal_(self.prototypes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.normalize(self.mlp(x).float(), dim=-1)
        with torch.autocast(x.device.type, enabled=False):
            return x @ F.normalize(self.prototypes.float(), dim=-1).T


class Heads(nn.Module):
    """Heads and their moving averages, which are frozen.

    Args:
        masked: have one for patches that are hidden.
        part: have one for parts of images.
    """

    def __init__(self, config: ViTConfig, *, masked: bool, part: bool) -> None:
        super().__init__()
        names = ["patches"] * masked + ["image"] * part
        self.learning = nn.ModuleDict({name: Head(config) for name in names})
        self.average = nn.ModuleDict({name: Head(config) for name in names}).requires_grad_(False)

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """Move the averages towards the heads, by 1 - ``momentum``."""
        for average, head in zip(self.average.parameters(), self.learning.parameters(), strict=True):
            average.lerp_(head, 1 - momentum)

    def masked_loss(self, seen_BND: Tensor, whole_BND: Tensor, hidden_BN: Tensor) -> Tensor:
        """Cross-entropy of the choices at hidden patches: the mean over those of an image, summed over images.

        Collective.

        Args:
            seen_BND: tokens of images whose patches are hidden.
            whole_BND: of the whole images.
        """
        target = self._target("patches", whole_BND, hidden_BN)
        each_BN = _cross_entropy(self.learning["patches"](seen_BND), target) * hidden_BN
        return (each_BN.sum(1) / hidden_BN.sum(1)).sum()

    def part_loss(self, part_BD: Tensor, whole_BD: Tensor) -> Tensor:
        """Cross-entropy of the choices of parts with those of their images, summed over images. Collective."""
        real_B = torch.ones(len(whole_BD), dtype=torch.bool, device=whole_BD.device)
        target = self._target("image", whole_BD, real_B)
        return _cross_entropy(self.learning["image"](part_BD), target).sum()

    @torch.no_grad()
    def _target(self, name: str, whole: Tensor, chosen: Tensor) -> Tensor:
        """Probabilities of the teacher: scores of the averaged head, centred by their mean over ``chosen`` tokens
        of all ranks, as in DINO."""
        scores = self.average[name](whole)
        counted = chosen.flatten().float()
        with torch.autocast(scores.device.type, enabled=False):
            total = torch.cat([counted @ scores.flatten(0, -2), counted.sum().view(1)])  # [K + 1]
        sum_over_ranks(total)
        target: Tensor = ((scores - total[:-1] / total[-1]) / TEACHER_TEMPERATURE).softmax(-1)
        return target


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


def take(images: Images, part_BM: Tensor, grids_B2: Tensor, patch: int) -> Patches:
    """The parts of images that are given by the numbers of their patches."""
    values_BNP = cut(images, patch) if isinstance(images, Tensor) else images.values
    return Patches(values_BNP.gather(1, part_BM[..., None].expand(-1, -1, values_BNP.shape[-1])), grids_B2)


def part_length(budget: int) -> int:
    """Most patches of a part of an image of ``budget`` patches in its own proportions."""
    return max(1, budget // 2)


def example_hidden(rows: int, patches: int, part: tuple[int, int]) -> Batch:
    """What :class:`HidingEncoder` adds to a batch, for plans; ``part``: the grid of a part."""
    return {
        "hidden": torch.ones(rows, patches, dtype=torch.bool),
        "part": torch.zeros(rows, part[0] * part[1], dtype=torch.long),
        "part_grids": torch.tensor(part).repeat(rows, 1),
    }


def _grey(values: Tensor, where: Tensor) -> Tensor:
    return values.masked_fill(where, 0 if values.is_floating_point() else 128)


def _cross_entropy(scores: Tensor, target: Tensor) -> Tensor:
    return -(target * (scores / STUDENT_TEMPERATURE).log_softmax(-1)).sum(-1)
