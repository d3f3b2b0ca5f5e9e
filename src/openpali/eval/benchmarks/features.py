"""Pictures -> features of a frozen encoder, and linear probes that need not hold all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from openpali.bundle import open_bundle
from openpali.data.images import Preprocess
from openpali.eval.probes import BIAS, L2, Floats, Labels
from openpali.infer.pali import Pali
from openpali.model.vit import ViT
from openpali.tasks.example import Image

BATCH = 64
MARGIN = 256 / 224  # pictures are resized to so much more than the model takes, and the middle is cut out

Load = Callable[[], Image]


class Encoder:
    """The image encoder of a family: of its ``siglip`` part, else of its ``pali``.

    Raises:
        ValueError: the model has neither.
    """

    def __init__(self, pali: Pali) -> None:
        part = next((part for part in ("siglip", "pali") if part in pali.parts), None)
        if part is None:
            raise ValueError(
                f"the model {pali.folder} has no image encoder to probe: neither a siglip nor a pali part"
            )
        bundle = open_bundle(pali.parts[part])
        self.vit = cast(ViT, bundle.model().get_submodule("vit"))
        self.preprocess = bundle.preprocess or Preprocess(*self.vit.config.image_size)

    def __call__(self, pictures: Sequence[Load]) -> Iterator[Floats]:
        """Mean patch tokens float64 ``[B, D]``, batch after batch."""
        with torch.inference_mode():
            for start in range(0, len(pictures), BATCH):
                pixels = [middle(load(), self.preprocess) for load in pictures[start : start + BATCH]]
                yield self.vit(torch.from_numpy(np.stack(pixels))).mean(1).double().numpy()


def middle(image: Image, preprocess: Preprocess) -> Image:
    """Resized to 256/224 of the model's size, then the middle (big_vision ``resize(256)|central_crop(224)``)."""
    height, width = preprocess.height, preprocess.width
    large = replace(preprocess, height=round(height * MARGIN), width=round(width * MARGIN))
    resized = large(image)
    top, left = (large.height - height) // 2, (large.width - width) // 2
    return resized[top : top + height, left : left + width]


class RidgeSums:
    """The ridge regression of :func:`~openpali.eval.probes.ridge_accuracy`, from sums over the training features.

    Memory is ``D * (D + classes)`` however many features are added.
    """

    def __init__(self, dim: int, classes: int) -> None:
        self.count = np.zeros(classes)
        self.by_class = np.zeros((dim, classes))
        self.gram = np.zeros((dim, dim))

    def add(self, features: Floats, labels: Labels) -> None:
        """Features ``[B, D]`` of training examples and their classes ``[B]``."""
        onehot = labels[:, None] == np.arange(len(self.count))
        self.count += onehot.sum(0)
        self.by_class += features.T @ onehot
        self.gram += features.T @ features

    def fit(self) -> Callable[[Floats], NDArray[np.int64]]:
        """Features ``[B, D]`` -> classes ``[B]``.

        Whitening by mean and deviation and the constant feature are applied to the sums; the constant is orthogonal
        to the whitened features, so its weight stands alone.
        """
        n, total = self.count.sum(), self.by_class.sum(1)
        mean = total / n
        deviation = np.sqrt(np.maximum(np.diag(self.gram) / n - mean**2, 0)) + 1e-5
        gram = (self.gram - n * np.outer(mean, mean)) / np.outer(deviation, deviation)
        # X^T y with y = 2 onehot - 1, X whitened: its columns sum to nothing.
        moment = 2 * (self.by_class - np.outer(mean, self.count)) / deviation[:, None]
        weights = np.linalg.solve(gram + L2 * np.eye(len(gram)), moment)
        bias = BIAS * BIAS * (2 * self.count - n) / (n * BIAS**2 + L2)

        def predict(features: Floats) -> NDArray[np.int64]:
            return np.asarray((((features - mean) / deviation) @ weights + bias).argmax(1), dtype=np.int64)

        return predict
