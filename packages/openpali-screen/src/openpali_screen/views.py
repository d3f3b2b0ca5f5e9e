"""Parts of images, enlarged or in other colours, and images turned by the angle of their text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage

from openpali_screen.geometry import AnyBox, Box, Image, Size

CELL = 4
"""Pixels of a cell's side."""
PATCH = 16
"""Pixels of a patch's side: what four convolutions of stride 2 make of an image."""
MARGIN = 0.07  # around a line, in heights of its box
WIDTHS = 64  # pixels; lines of a batch are padded to a multiple of it: libraries keep a compiled matmul per shape


class View(NamedTuple):
    """A part of an image, enlarged: pixel (y, x) of the view is (top + y / down, left + x / right) of the image."""

    top: float
    left: float
    down: float
    right: float

    def box(self, box: AnyBox) -> Box:
        """A box of the image in pixels of the view."""
        tops = ((edge - self.top) * self.down for edge in (box.ymin, box.ymax))
        lefts = ((edge - self.left) * self.right for edge in (box.xmin, box.xmax))
        (ymin, ymax), (xmin, xmax) = tops, lefts
        return Box(ymin, xmin, ymax, xmax)

    def of(self, image: PilImage.Image, height: int, width: int) -> Image:
        """The view, uint8 ``[height, width, 3]``, in one colour of the image where it reaches beyond that."""
        corner = (
            min(max(0, round(self.left)), image.width - 1),
            min(max(0, round(self.top)), image.height - 1),
        )
        filter = PilImage.Resampling.BILINEAR if self.down > 1 else PilImage.Resampling.BICUBIC
        numbers = (1 / self.right, 0, self.left, 0, 1 / self.down, self.top)
        colour = image.getpixel(corner)
        view = image.transform((width, height), PilImage.Transform.AFFINE, numbers, filter, fillcolor=colour)
        return np.array(view)


def random_view(
    image: PilImage.Image,
    height: int,
    width: int,
    scales: tuple[float, float],
    rng: np.random.Generator,
    aim: AnyBox | None = None,
) -> View:
    """A part of an image that fills ``height`` x ``width`` pixels, at a scale between two.

    With ``aim``, the centre of that box is anywhere in the view. The view stays inside an image that is larger.
    """
    scale = float(np.exp(rng.uniform(*np.log(scales))))
    corner = []
    for axis, (side, own) in enumerate(zip((height, width), (image.height, image.width), strict=True)):
        seen = side / scale
        ends = min(0, own - seen), max(0, own - seen)
        start = float(rng.uniform(*ends) if aim is None else aim.centre[axis] - rng.uniform(0, seen))
        corner.append(min(max(start, ends[0]), ends[1]))
    return View(corner[0], corner[1], scale, scale)


def recolour(pixels: Image, rng: np.random.Generator, bend: float = 1.0) -> Image:
    """The image ``[..., 3]`` in two other colours: pages of few colours teach text on any.

    Black becomes one random colour and white another, whose brightness differs by a quarter of the range at least.
    The tones between them follow a power of up to ``bend`` or down to its inverse: dark or light ones become alike.
    """
    while True:
        black, white = rng.integers(0, 256, (2, 3))
        if abs(int(white.sum()) - int(black.sum())) >= 3 * 64:
            break
    values = np.arange(256)[:, None] / 255
    if bend > 1:
        values **= bend ** rng.uniform(-1, 1)
    table = (black + (white - black) * values).astype(np.uint8)  # [256, 3]
    return np.stack([table[pixels[..., channel], channel] for channel in range(3)], -1)


def view_of_line(box: AnyBox, height: int, width: int, rng: np.random.Generator | None = None) -> tuple[View, int]:
    """How the reader sees a line ``height`` pixels high: the box with :data:`MARGIN` around it; and its width in
    pixels, a multiple of 16 up to ``width``.

    In training ``rng`` moves and stretches it a little, as a finder does that is not exact.
    """

    def move(most: float) -> float:
        return 0.0 if rng is None else float(rng.uniform(-most, most))

    tall = box.height
    top, bottom = box.ymin - (MARGIN + move(0.08)) * tall, box.ymax + (MARGIN + move(0.08)) * tall
    left, right = box.xmin - (MARGIN + move(0.12)) * tall, box.xmax + (MARGIN + move(0.12)) * tall
    down = height / (bottom - top)
    across = down * float(np.exp(move(0.12)))
    wide = min(width, max(PATCH, -(-int((right - left) * across) // PATCH) * PATCH))
    return View(top, left, down, min(across, wide / (right - left))), wide


def end_at(pixels: Image, column: int) -> Image:
    """Overwrite a view ``[H, W, 3]`` from a column on, in place: words there are not in the target."""
    column = max(1, column)
    pixels[:, column:] = pixels[:, column - 1 : column]
    return pixels


def without_margin(size: Size) -> Box:
    """The box whose margin ends with an image of ``size``: an image of a line has some room around it."""
    room = size.height * MARGIN / (1 + 2 * MARGIN)
    return Box(room, room, size.height - room, size.width - room)


# chosen on windows and pages that nothing is learnt from or scored on
_MOST_SKEW = 12.0  # degrees; no skew is larger
_SKEW_STEP = 0.25  # degrees between two that are tried
_LEAST_SKEW = 0.5  # degrees; lines of a smaller skew are read as they are
_CLEARER = 1.03  # least ratio of the sharpness of a profile to that of no skew


@dataclass(frozen=True)
class Turn:
    """A page ``size`` whose text runs at ``angle``: counter-clockwise degrees, 90 from bottom to top."""

    size: Size
    angle: float

    def upright(self, image: Image) -> Image:
        """The page ``[H, W, 3]`` uint8 with text from left to right; itself, if it is so already."""
        if self.angle % 90 == 0:
            return np.ascontiguousarray(np.rot90(image, -round(self.angle / 90)))
        edges = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        ground = tuple(np.median(edges, 0).astype(int).tolist())
        turned = PilImage.fromarray(image).rotate(
            -self.angle, PilImage.Resampling.BICUBIC, expand=True, fillcolor=ground
        )
        return np.array(turned)

    def given(self, box: Box, upright: Size) -> Box:
        """The box on the page as it was given of a box on the page of size ``upright``; it holds it, if skewed."""
        if not self.angle:
            return box
        cos, sin = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        corners = [
            (y - upright.height / 2, x - upright.width / 2)
            for y, x in product((box.ymin, box.ymax), (box.xmin, box.xmax))
        ]
        ys = [self.size.height / 2 + y * cos - x * sin for y, x in corners]
        xs = [self.size.width / 2 + x * cos + y * sin for y, x in corners]
        return Box(min(ys), min(xs), max(ys), max(xs))


def skew_of(text: NDArray[np.bool_]) -> float:
    """Counter-clockwise degrees by which lines are skewed, by the sharpest projection profile; 0: hardly or none.

    Args:
        text: ``[h, w]``, where the centre lines of lines of text are.
    """
    y, x = np.nonzero(text)
    if not len(y):
        return 0.0
    angles = np.arange(-_MOST_SKEW, _MOST_SKEW + _SKEW_STEP, _SKEW_STEP)
    places = [y + x * math.tan(math.radians(angle)) for angle in angles]
    sharp = np.array(
        [np.square(np.bincount((some - some.min()).astype(int)), dtype=float).sum() for some in places]
    )
    best = int(sharp.argmax())
    clear = abs(angles[best]) >= _LEAST_SKEW and sharp[best] >= _CLEARER * sharp[len(sharp) // 2]
    return float(angles[best]) if clear else 0.0
