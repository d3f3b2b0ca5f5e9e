"""Images in their own proportions, cut into patches: the preprocessing of SigLIP 2's NaFlex."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from openpali.data.media.images import FILTERS, Preprocess, resize
from openpali.tasks.example import Image, Size

FEWEST, LARGEST, PRECISION = 1e-6, 100.0, 1e-5  # of the scale of an image, as transformers searches it


@dataclass(frozen=True)
class NativePreprocess:
    """Resizes images to as many patches as a budget allows, in nearly their own proportions.

    Each side becomes a multiple of the patch size. The image fills it, so coordinates relative to its sides stay
    right. The size is that of transformers' `Siglip2ImageProcessor`.

    Attributes:
        patch: side of a patch in pixels.
        tokens: most patches of an image.
        filter: one of :data:`~openpali.data.media.images.FILTERS`.
    """

    patch: int
    tokens: int
    filter: str = Preprocess.filter
    policy: ClassVar[str] = "native"
    min_size: ClassVar[None] = None  # the size of an image depends on its proportions: it is decoded at full size

    def __post_init__(self) -> None:
        if self.patch < 1 or self.tokens < 1 or self.filter not in FILTERS:
            raise ValueError(
                f"unknown preprocessing of {self.tokens} patches of {self.patch} pixels with {self.filter!r}: both "
                f"must be at least 1, and filter one of {', '.join(FILTERS)}"
            )

    def grid(self, size: Size) -> tuple[int, int]:
        """Rows and columns of patches of an image of ``size``: those of the largest scale that fits the budget."""

        def at(scale: float) -> tuple[int, int]:
            rows, columns = (max(1, math.ceil(side * scale / self.patch)) for side in size)
            return rows, columns

        low, high = FEWEST, LARGEST
        while high - low >= PRECISION:
            scale = (low + high) / 2
            if math.prod(at(scale)) <= self.tokens:
                low = scale
            else:
                high = scale
        return at(low)

    def __call__(self, image: Image) -> Image:
        """RGB uint8 ``[H, W, 3]`` of any size -> uint8 ``[rows * patch, columns * patch, 3]`` of its grid."""
        rows, columns = self.grid(Size(*image.shape[:2]))
        size = Size(rows * self.patch, columns * self.patch)
        return image if image.shape[:2] == size else resize(image, size, self.filter)

    def arrays(self, image: Image) -> dict[str, NDArray[Any]]:
        """An image as arrays of a sample: ``images [tokens, patch * patch * 3]`` uint8, its patches, row-major over
        its grid, then zeros; and ``grids [2]`` int64, rows and columns.
        """
        return self.pack(self(image))

    def pack(self, resized: Image) -> dict[str, NDArray[Any]]:
        """:meth:`arrays` of an image that is resized already."""
        p = self.patch
        rows, columns = (side // p for side in resized.shape[:2])
        cut = resized.reshape(rows, p, columns, p, 3).swapaxes(1, 2).reshape(rows * columns, -1)
        patches = np.zeros((self.tokens, cut.shape[1]), np.uint8)
        patches[: len(cut)] = cut
        return {"images": patches, "grids": np.array([rows, columns])}

    def mismatch(self, size: Size) -> float:
        """How many times wider or higher than the model's images an image is, in proportion: these are alike."""
        return 1.0

    def covered(self, size: Size) -> tuple[float, float]:
        """Shares of height and width that an image covers after resizing: all."""
        return 1.0, 1.0


AnyPreprocess: TypeAlias = Preprocess | NativePreprocess


def preprocess_from(described: dict[str, Any]) -> AnyPreprocess:
    """The preprocessing that a model folder describes by its fields."""
    return NativePreprocess(**described) if "tokens" in described else Preprocess(**described)
