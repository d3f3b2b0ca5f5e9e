"""Which images a model knows: the distance of an image's patch tokens from those of its training world.

Stored in the folder ``familiarity`` of a model, which ``openpali calibrate`` writes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from openpali.weights.format import FAMILIARITY
from openpali.weights.tensors import MappedTensors, write_tensors

CENTRES = 64
ROUNDS = 20  # of k-means
RIDGE = 1e-2  # of the mean variance, added to each direction's before whitening
FALSE_ALARMS = 0.01  # share of known images that a limit takes for strange


@dataclass(frozen=True)
class Familiarity:
    """Known images, as centres in a whitened space of image features (:func:`describe`).

    Attributes:
        mean: of the features, ``[D]``.
        whiten: their whitening, ``[D, D]``.
        centres: k-means of known images, whitened, ``[K, D]``.
        limit: distance from the nearest centre beyond which :data:`FALSE_ALARMS` of other known images are, ``[]``.
    """

    mean: Tensor
    whiten: Tensor
    centres: Tensor
    limit: Tensor

    def strangeness(self, features_ND: Tensor) -> Tensor:
        """Distance of images from the nearest centre, in units of the limit, ``[N]``: above 1 they are strange."""
        return self.distance(features_ND) / self.limit

    def distance(self, features_ND: Tensor) -> Tensor:
        """Distance of images from the nearest centre, ``[N]``."""
        whitened_ND = (features_ND.float() - self.mean) @ self.whiten.float()
        return torch.cdist(whitened_ND, self.centres.float()).amin(1)


def describe(tokens_BND: Tensor) -> Tensor:
    """Features of images, ``[B, 2 D]``: mean of the patch tokens, and logarithm of their standard deviation."""
    tokens_BND = tokens_BND.float()
    return torch.cat([tokens_BND.mean(1), (tokens_BND.std(1, correction=0) + 1e-6).log()], dim=1)


def fit_familiarity(features_ND: Tensor, others_MD: Tensor) -> Familiarity:
    """Learn known images.

    Args:
        features_ND: of known images.
        others_MD: of other known images, which set the limit.

    Raises:
        ValueError: fewer images than centres, or no others.
    """
    if len(features_ND) < CENTRES or not len(others_MD):
        raise ValueError(
            f"{len(features_ND)} images and {len(others_MD)} others are too few to learn what a model knows: take "
            f"{CENTRES} or more, and at least one other"
        )
    x_ND = features_ND.double()
    mean = x_ND.mean(0)
    variances, directions = torch.linalg.eigh(torch.cov(x_ND.T))
    whiten = directions / (variances + RIDGE * variances.mean()).sqrt()
    centres = _k_means((x_ND - mean) @ whiten)
    half = Familiarity(mean.float(), whiten.half(), centres.half(), torch.tensor(1.0))
    limit = half.distance(others_MD).quantile(1 - FALSE_ALARMS)
    return Familiarity(half.mean, half.whiten, half.centres, limit)


def read_familiarity(folder: Path) -> Familiarity | None:
    """What a model folder knows; None if it does not say.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / FAMILIARITY
    if not path.is_dir():
        return None
    tensors = MappedTensors(path)
    names = [field.name for field in fields(Familiarity)]
    if missing := [name for name in names if name not in tensors]:
        raise ValueError(f"{path} has no {missing[0]}: run `openpali calibrate` again")
    return Familiarity(**{name: tensors[name] for name in names})


def write_familiarity(folder: Path, known: Familiarity) -> None:
    """Store what a model knows in its folder.

    Raises:
        OSError: it cannot be written.
    """
    write_tensors(folder / FAMILIARITY, {field.name: getattr(known, field.name) for field in fields(Familiarity)})


def _k_means(x_ND: Tensor) -> Tensor:
    """Lloyd's algorithm from evenly spaced rows; a centre that no row is nearest to stays."""
    centres_KD = x_ND[torch.linspace(0, len(x_ND) - 1, CENTRES).round().long()]
    for _ in range(ROUNDS):
        nearest = torch.cdist(x_ND, centres_KD).argmin(1)
        counts = nearest.bincount(minlength=CENTRES)[:, None]
        sums = torch.zeros_like(centres_KD).index_add_(0, nearest, x_ND)
        centres_KD = torch.where(counts > 0, sums / counts.clamp(min=1), centres_KD)
    return centres_KD
