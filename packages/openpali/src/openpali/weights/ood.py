"""Detection of out-of-distribution (OOD) images, by the distance of patch tokens from those of training images.

Stored in the folder ``ood`` of a model, which ``openpali calibrate`` writes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from openpali.tensors import MappedTensors, write_tensors
from openpali.weights.files import OOD

CENTRES = 64
ROUNDS = 20  # of k-means
RIDGE = 1e-2  # of the mean variance, added to each direction's before whitening
FALSE_ALARMS = 0.01  # share of in-distribution images beyond the limit


@dataclass(frozen=True)
class OodDetector:
    """In-distribution images, as centres in a whitened space of image features (:func:`describe`)."""

    mean: Tensor  # of the features, [D]
    whiten: Tensor  # their whitening, [D, D]
    centres: Tensor  # k-means of in-distribution images, whitened, [K, D]
    limit: Tensor  # distance from the nearest centre beyond which FALSE_ALARMS of other such images are, []

    def score(self, features_ND: Tensor) -> Tensor:
        """OOD score, ``[N]``: distance of images from the nearest centre, in units of the limit."""
        return self.distance(features_ND) / self.limit

    def distance(self, features_ND: Tensor) -> Tensor:
        """Distance of images from the nearest centre, ``[N]``."""
        whitened_ND = (features_ND.float() - self.mean) @ self.whiten.float()
        return torch.cdist(whitened_ND, self.centres.float()).amin(1)


def is_out(score: float | None) -> bool | None:
    """Whether images of an OOD score are out of distribution; None: not known."""
    return None if score is None else score > 1


def describe(tokens_BND: Tensor, real_BN: Tensor | None = None) -> Tensor:
    """Features of images, ``[B, 2 D]``: mean of the patch tokens, and logarithm of their standard deviation.

    ``real_BN``: which tokens are no padding, bool; None: all.
    """
    tokens_BND = tokens_BND.float()
    if real_BN is None:
        mean_BD, std_BD = tokens_BND.mean(1), tokens_BND.std(1, correction=0)
    else:
        share_BN1 = (real_BN / real_BN.sum(1, keepdim=True))[..., None]
        mean_BD = (tokens_BND * share_BN1).sum(1)
        std_BD = ((tokens_BND - mean_BD[:, None]).square() * share_BN1).sum(1).sqrt()
    return torch.cat([mean_BD, (std_BD + 1e-6).log()], -1)


def fit_ood(features_ND: Tensor, others_MD: Tensor, kinds_N: Tensor | None = None) -> OodDetector:
    """Fit a detector.

    Args:
        features_ND: of in-distribution images.
        others_MD: of held-out in-distribution images, whose distances set the limit.
        kinds_N: group of each image, such as its package. Each group is held out once; its distances from centres
            fitted on the rest give a second limit, and the larger one is kept, so that an unseen package is in
            distribution.
    """
    if len(features_ND) < CENTRES or not len(others_MD):
        raise ValueError(
            f"{len(features_ND)} images and {len(others_MD)} others are too few to fit an OOD detector: take "
            f"{CENTRES} or more, and at least one other"
        )
    seen = _fit_centres(features_ND)
    distances = [seen.distance(others_MD)]
    if kinds_N is not None:
        distances.append(_left_out(features_ND, kinds_N))
    limits = [own.quantile(1 - FALSE_ALARMS) for own in distances if len(own)]
    return replace(seen, limit=torch.stack(limits).amax())


def _left_out(features_ND: Tensor, kinds_N: Tensor) -> Tensor:
    """Distance of each image from centres fitted without its kind; kinds with too few others are left out."""
    found = []
    for kind in range(int(kinds_N.max()) + 1):
        rest_ND = features_ND[kinds_N != kind]
        if len(rest_ND) >= CENTRES:
            found.append(_fit_centres(rest_ND).distance(features_ND[kinds_N == kind]))
    return torch.cat(found) if found else torch.empty(0)


def _fit_centres(features_ND: Tensor) -> OodDetector:
    """A detector without a limit."""
    x_ND = features_ND.double()
    mean = x_ND.mean(0)
    variances, directions = torch.linalg.eigh(torch.cov(x_ND.T))
    whiten = directions / (variances + RIDGE * variances.mean()).sqrt()
    centres = _k_means((x_ND - mean) @ whiten)
    return OodDetector(mean.float(), whiten.half(), centres.half(), torch.tensor(1.0))


def read_ood(folder: Path) -> OodDetector | None:
    """The OOD detector of a model folder; None if it has none."""
    path = folder / OOD
    if not path.is_dir():
        return None
    tensors = MappedTensors(path)
    names = [field.name for field in fields(OodDetector)]
    if missing := [name for name in names if name not in tensors]:
        raise ValueError(f"{path} has no {missing[0]}: run `openpali calibrate` again")
    return OodDetector(**{name: tensors[name] for name in names})


def write_ood(folder: Path, detector: OodDetector) -> None:
    """Store the OOD detector of a model in its folder."""
    write_tensors(folder / OOD, {field.name: getattr(detector, field.name) for field in fields(OodDetector)})


def _k_means(x_ND: Tensor) -> Tensor:
    """Lloyd's algorithm from evenly spaced rows; a centre that no row is nearest to stays."""
    centres_KD = x_ND[torch.linspace(0, len(x_ND) - 1, CENTRES).round().long()]
    for _ in range(ROUNDS):
        nearest = torch.cdist(x_ND, centres_KD).argmin(1)
        counts = nearest.bincount(minlength=CENTRES)[:, None]
        sums = torch.zeros_like(centres_KD).index_add_(0, nearest, x_ND)
        centres_KD = torch.where(counts > 0, sums / counts.clamp(min=1), centres_KD)
    return centres_KD
