"""The angle at which the text of a page runs, and the page turned upright."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage

from openpali.tasks.example import Box, Image, Size

# chosen on windows and pages that nothing is learnt from or scored on
_MOST = 12.0  # degrees; no skew is larger
_STEP = 0.25  # degrees between two that are tried
_LEAST = 0.5  # degrees; lines of a smaller skew are read as they are
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
    angles = np.arange(-_MOST, _MOST + _STEP, _STEP)
    places = [y + x * math.tan(math.radians(angle)) for angle in angles]
    sharp = np.array(
        [np.square(np.bincount((some - some.min()).astype(int)), dtype=float).sum() for some in places]
    )
    best = int(sharp.argmax())
    clear = abs(angles[best]) >= _LEAST and sharp[best] >= _CLEARER * sharp[len(sharp) // 2]
    return float(angles[best]) if clear else 0.0
