"""Parts of images, enlarged or in other colours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image as PilImage

from openpali.tasks.example import Box, Image, Size
from openpali_screen.vit import PATCH

MARGIN = 0.07  # around a line, in heights of its box
WIDTHS = 64  # pixels; lines of a batch are padded to a multiple of it: libraries keep a compiled matmul per shape


class View(NamedTuple):
    """A part of an image, enlarged: pixel (y, x) of the view is (top + y / down, left + x / right) of the image."""

    top: float
    left: float
    down: float
    right: float

    def box(self, box: Box) -> Box:
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
    aim: Box | None = None,
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


def view_of_line(box: Box, height: int, width: int, rng: np.random.Generator | None = None) -> tuple[View, int]:
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
