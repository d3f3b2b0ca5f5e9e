"""Stamps onto pictures: scaling and turning, blending, and who owns which pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openpali.data.world.world import Stamp
from openpali.tasks.example import Box, Mask
from openpali.tasks.example import Image as Picture


@dataclass(frozen=True)
class Patch:
    """A stamp as it will be painted: premultiplied colour float32 [h, w, 3] (0..255), alpha float32 [h, w, 1]
    (0..1), and the pixels that count as the thing, bool [h, w] (alpha of at least a half)."""

    stamp: Stamp
    colour: NDArray[np.float32]
    alpha: NDArray[np.float32]
    shape: Mask

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.shape.shape
        return height, width


def make_patch(stamp: Stamp, side: float, rng: np.random.Generator, *, turn: float = 15.0) -> Patch:
    """``stamp`` with its longest side ``side`` pixels; a third of the time turned by up to ``turn`` degrees first,
    half of the time mirrored where it may be, and always with slightly changed colours."""
    turned, angle, mirrored, bright, *tint = rng.random(8)
    level = next((level for level in reversed(stamp.levels) if max(level.size) >= side), stamp.levels[0])
    if turned < 1 / 3 and turn > 0:
        picture = _turned(level, side, np.deg2rad((2 * angle - 1) * turn))
    else:
        scale = side / max(level.size)
        size = max(1, round(level.width * scale)), max(1, round(level.height * scale))
        picture = level.resize(size, Image.Resampling.BILINEAR)
    pixels = np.asarray(picture)
    if stamp.mirror and mirrored < 0.5:
        pixels = pixels[:, ::-1]
    gain = ((0.82 + 0.3 * bright) * (0.95 + 0.1 * np.array(tint[:3]))).astype(np.float32)
    alpha = pixels[..., 3:]
    shift = np.float32((tint[3] - 0.5) * 24 / 255)  # of the brightness, in proportion to alpha
    colour = pixels[..., :3] * gain
    colour += alpha * shift
    np.clip(colour, 0, alpha, out=colour)
    return Patch(stamp, colour, alpha * np.float32(1 / 255), alpha[..., 0] >= 128)


def _turned(level: Image.Image, side: float, angle: float) -> Image.Image:
    """``level`` turned by ``angle`` radians and scaled until its longest side is ``side``, in one resampling."""
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    wide = abs(level.width * cos) + abs(level.height * sin)
    high = abs(level.width * sin) + abs(level.height * cos)
    zoom = max(wide, high) / side
    width, height = max(1, int(wide / zoom)), max(1, int(high / zoom))
    # Output pixel -> input pixel: turn back and enlarge about the centres.
    a, b, d, e = cos * zoom, sin * zoom, -sin * zoom, cos * zoom
    c = level.width / 2 - a * width / 2 - b * height / 2
    f = level.height / 2 - d * width / 2 - e * height / 2
    return level.transform((width, height), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR)


def blend(picture: Picture, patch: Patch, top: int, left: int) -> None:
    """Paints ``patch`` onto ``picture`` (uint8 [H, W, 3], changed in place); it must lie inside."""
    height, width = patch.size
    region = picture[top : top + height, left : left + width]
    region[...] = region * (1 - patch.alpha) + patch.colour + np.float32(0.5)


def owners(canvas: int, patches: Sequence[Patch], places: Sequence[tuple[int, int]]) -> NDArray[np.uint8]:
    """Which patch shows at each pixel: uint8 [canvas, canvas], 0 for none, i + 1 for ``patches[i]``; later ones
    lie in front."""
    owner = np.zeros((canvas, canvas), np.uint8)
    for number, (patch, (top, left)) in enumerate(zip(patches, places, strict=True), start=1):
        height, width = patch.size
        owner[top : top + height, left : left + width][patch.shape] = number
    return owner


def mask_box(mask: Mask) -> Box:
    """The tightest box around a mask [H, W] that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Box(float(rows[0]), float(columns[0]), float(rows[-1] + 1), float(columns[-1] + 1))
