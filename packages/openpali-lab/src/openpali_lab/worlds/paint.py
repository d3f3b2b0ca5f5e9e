"""Stamps onto images: scale, rotate and blend them, and find which stamp shows at which pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from openpali.tasks.example import Image, Mask
from openpali_lab.worlds.world import Stamp

Place = tuple[int, int]  # top, left
Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Patch:
    """A stamp ready to be painted.

    Attributes:
        colours, alpha: Pillow images of one size, modes RGB and L.
        shape: the pixels that count as the thing, bool [h, w]: alpha of at least a half.
    """

    stamp: Stamp
    colours: PILImage.Image
    alpha: PILImage.Image
    shape: Mask

    @property
    def size(self) -> Size:
        """Height and width in pixels."""
        return self.alpha.height, self.alpha.width


def make_patch(stamp: Stamp, side: float, rng: np.random.Generator) -> Patch:
    """``stamp`` scaled so that its longest side is ``side`` pixels, with random changes.

    A third of the patches are rotated by up to 15 degrees, half of those that allow it are mirrored,
    and all have slightly changed colours.
    """
    turned, angle, mirrored, bright, shift, *tint = rng.random(8).tolist()
    level = next((level for level in reversed(stamp.levels) if max(level.size) >= side), stamp.levels[0])
    if turned < 1 / 3:
        image = _turned(level, side, math.radians((2 * angle - 1) * 15))
    else:
        scale = side / max(level.size)
        size = max(1, round(level.width * scale)), max(1, round(level.height * scale))
        image = level.resize(size, PILImage.Resampling.BILINEAR)
    if stamp.mirror and mirrored < 0.5:
        image = image.transpose(PILImage.Transpose.FLIP_LEFT_RIGHT)
    image = image.convert("RGBA")
    red, green, blue = ((0.82 + 0.3 * bright) * (0.95 + 0.1 * channel) for channel in tint)
    more = 24 * (shift - 0.5)
    matrix = (red, 0.0, 0.0, more, 0.0, green, 0.0, more, 0.0, 0.0, blue, more)
    alpha = image.getchannel("A")
    return Patch(stamp, image.convert("RGB").convert("RGB", matrix), alpha, np.asarray(alpha) >= 128)


def _turned(level: PILImage.Image, side: float, angle: float) -> PILImage.Image:
    """``level`` rotated by ``angle`` radians and scaled to the longest side ``side``, in one resampling."""
    cos, sin = math.cos(angle), math.sin(angle)
    wide = abs(level.width * cos) + abs(level.height * sin)
    high = abs(level.width * sin) + abs(level.height * cos)
    zoom = max(wide, high) / side
    width, height = max(1, int(wide / zoom)), max(1, int(high / zoom))
    # Output pixel -> input pixel: the inverse rotation and scale about the centres.
    a, b, d, e = cos * zoom, sin * zoom, -sin * zoom, cos * zoom
    c = level.width / 2 - a * width / 2 - b * height / 2
    f = level.height / 2 - d * width / 2 - e * height / 2
    return level.transform(
        (width, height), PILImage.Transform.AFFINE, (a, b, c, d, e, f), PILImage.Resampling.BILINEAR
    )


def paint(ground: Image, patches: Sequence[Patch], places: Sequence[Place]) -> Image:
    """``ground``, uint8 [H, W, 3], with all patches painted onto it in order."""
    image = PILImage.fromarray(ground)
    for patch, (top, left) in zip(patches, places, strict=True):
        image.paste(patch.colours, (left, top), patch.alpha)
    return np.array(image)


def owners(canvas: int, patches: Sequence[Patch], places: Sequence[Place]) -> NDArray[np.uint8]:
    """Which patch shows at each pixel: uint8 [canvas, canvas], 0 for none, i + 1 for ``patches[i]``.

    Later patches are in front.
    """
    owner = np.zeros((canvas, canvas), np.uint8)
    for number, (patch, (top, left)) in enumerate(zip(patches, places, strict=True), start=1):
        height, width = patch.size
        owner[top : top + height, left : left + width][patch.shape] = number
    return owner


def overlap(a: Size, at: Place, b: Size, bt: Place) -> float:
    """Overlap of two boxes as a share of the smaller one, 0..1."""
    height = min(at[0] + a[0], bt[0] + b[0]) - max(at[0], bt[0])
    width = min(at[1] + a[1], bt[1] + b[1]) - max(at[1], bt[1])
    return max(0, height) * max(0, width) / min(a[0] * a[1], b[0] * b[1])
