"""Stamps onto pictures: scaling and turning, blending, and who owns which pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openpali.synth.world import Stamp
from openpali.tasks.example import Box, Mask
from openpali.tasks.example import Image as Picture

Place = tuple[int, int]  # top, left
Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Patch:
    """A stamp as it will be painted: its colours (mode RGB), its alpha (mode L), and the pixels of it that count as
    the thing, bool [h, w] (alpha of at least a half)."""

    stamp: Stamp
    colours: Image.Image
    alpha: Image.Image
    shape: Mask

    @property
    def size(self) -> Size:
        """Height and width in pixels."""
        return self.alpha.height, self.alpha.width


def make_patch(stamp: Stamp, side: float, rng: np.random.Generator, *, turn: float = 15.0) -> Patch:
    """``stamp`` with its longest side ``side`` pixels; a third of the time turned by up to ``turn`` degrees first,
    half of the time mirrored where it may be, and always with slightly changed colours."""
    turned, angle, mirrored, bright, shift, *tint = rng.random(8).tolist()
    level = next((level for level in reversed(stamp.levels) if max(level.size) >= side), stamp.levels[0])
    if turned < 1 / 3 and turn > 0:
        picture = _turned(level, side, math.radians((2 * angle - 1) * turn))
    else:
        scale = side / max(level.size)
        size = max(1, round(level.width * scale)), max(1, round(level.height * scale))
        picture = level.resize(size, Image.Resampling.BILINEAR)
    if stamp.mirror and mirrored < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture = picture.convert("RGBA")
    red, green, blue = ((0.82 + 0.3 * bright) * (0.95 + 0.1 * channel) for channel in tint)
    more = 24 * (shift - 0.5)
    matrix = (red, 0.0, 0.0, more, 0.0, green, 0.0, more, 0.0, 0.0, blue, more)
    alpha = picture.getchannel("A")
    return Patch(stamp, picture.convert("RGB").convert("RGB", matrix), alpha, np.asarray(alpha) >= 128)


def _turned(level: Image.Image, side: float, angle: float) -> Image.Image:
    """``level`` turned by ``angle`` radians and scaled until its longest side is ``side``, in one resampling."""
    cos, sin = math.cos(angle), math.sin(angle)
    wide = abs(level.width * cos) + abs(level.height * sin)
    high = abs(level.width * sin) + abs(level.height * cos)
    zoom = max(wide, high) / side
    width, height = max(1, int(wide / zoom)), max(1, int(high / zoom))
    # Output pixel -> input pixel: turn back and enlarge about the centres.
    a, b, d, e = cos * zoom, sin * zoom, -sin * zoom, cos * zoom
    c = level.width / 2 - a * width / 2 - b * height / 2
    f = level.height / 2 - d * width / 2 - e * height / 2
    return level.transform((width, height), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR)


def paint(ground: Picture, patches: Sequence[Patch], places: Sequence[Place]) -> Picture:
    """``ground`` (uint8 [H, W, 3]) with all patches on it, in order."""
    picture = Image.fromarray(ground)
    for patch, (top, left) in zip(patches, places, strict=True):
        picture.paste(patch.colours, (left, top), patch.alpha)
    return np.array(picture)


def owners(canvas: int, patches: Sequence[Patch], places: Sequence[Place]) -> NDArray[np.uint8]:
    """Which patch shows at each pixel: uint8 [canvas, canvas], 0 for none, i + 1 for ``patches[i]``; later ones
    lie in front."""
    owner = np.zeros((canvas, canvas), np.uint8)
    for number, (patch, (top, left)) in enumerate(zip(patches, places, strict=True), start=1):
        height, width = patch.size
        owner[top : top + height, left : left + width][patch.shape] = number
    return owner


def covered(a: Size, at: Place, b: Size, bt: Place) -> float:
    """Common area of two boxes over the area of the smaller one, 0..1."""
    height = min(at[0] + a[0], bt[0] + b[0]) - max(at[0], bt[0])
    width = min(at[1] + a[1], bt[1] + b[1]) - max(at[1], bt[1])
    return max(0, height) * max(0, width) / min(a[0] * a[1], b[0] * b[1])


def mask_box(mask: Mask) -> Box:
    """The tightest box around a mask [H, W] that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Box(float(rows[0]), float(columns[0]), float(rows[-1] + 1), float(columns[-1] + 1))
