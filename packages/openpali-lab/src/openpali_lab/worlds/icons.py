"""Drawn icons, as they look in windows: in any two colours, small, off centre, blurred, on a plate, near others."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFilter

from openpali.rng import named_generator
from openpali.tasks.example import Example, Image

SIDE = 48  # pixels of a drawn icon
_SIZES = (12, 48)  # of its larger side, before it is enlarged
CONTRAST = 0.35  # least difference of the lightness of ink and ground, of 1
_LUMA = np.array((0.299, 0.587, 0.114), np.float32)
_PLATE, _NEIGHBOUR, _BLUR, _WEIGHT = 0.2, 0.15, 0.3, 0.3
"""Shares of icons on a filled shape, beside a neighbour, blurred, and with thicker or thinner lines."""

Grey = NDArray[np.uint8]


class Colours(NamedTuple):
    """Of the ground, of a plate on it, and of the ink; float ``[3]`` each, 0..255."""

    ground: NDArray[np.float32]
    plate: NDArray[np.float32]
    ink: NDArray[np.float32]


class IconSource:
    """Icons of a split that ``openpali data build icons`` made. Classes are the labels of all.

    Of "train" there are 2**40 drawings, each a pure function of (seed, index): a class by the square root of its
    number of sets, a set of it, an icon of that. Of "dev" there is one drawing of each icon.
    """

    def __init__(self, folder: Path, split: str = "train", seed: int = 0) -> None:
        self.split, self.seed = split, seed
        self.images: NDArray[np.uint8] = np.load(folder / f"{split}.npy", mmap_mode="r")
        lines = (folder / f"{split}.jsonl").read_text("utf-8").splitlines()
        self.icons = [json.loads(line) for line in lines]
        members: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for number, icon in enumerate(self.icons):
            members[icon["label"]][icon["set"]].append(number)
        self.labels = sorted(members)
        self._members = [[*members[label].values()] for label in self.labels]

    @cached_property
    def _ends(self) -> NDArray[np.float64]:
        """Where classes end in 0..1, by which they are drawn."""
        ends = np.cumsum([len(sets) ** 0.5 for sets in self._members])
        return np.asarray(ends / ends[-1])

    def __len__(self) -> int:
        return 2**40 if self.split == "train" else len(self.icons)

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"icon {index} of {len(self)}")
        rng = named_generator("icon", self.seed, self.split, index=index)
        number = self._draw(rng) if self.split == "train" else index
        other = self.images[rng.integers(len(self.images))] if rng.random() < _NEIGHBOUR else None
        icon = self.icons[number]
        key = f"{icon['set']}:{icon['name']}-{index}"
        return Example(key, images=[draw(self.images[number], other, rng)], label=icon["label"])

    def _draw(self, rng: np.random.Generator) -> int:
        sets = self._members[int(np.searchsorted(self._ends, rng.random()))]
        own = sets[int(rng.random() * len(sets))]
        return own[int(rng.random() * len(own))]


def draw(icon: Grey, other: Grey | None, rng: np.random.Generator) -> Image:
    """An icon ``[64, 64]``, 255 where it is black, as ``[48, 48, 3]``: seen small, then enlarged.

    Args:
        other: an icon that reaches into the image at one side.
    """
    chance = rng.random(12)
    plate = chance[0] < _PLATE
    size = round(_SIZES[0] * (_SIZES[1] / _SIZES[0]) ** chance[1])  # of the icon, in pixels
    room = 0.3 + 0.3 * chance[2] if plate else 0.35 * chance[2] ** 1.5  # around it, in sizes
    whole = max(10, round(size * (1 + 2 * room)))
    ink = _placed(icon, whole, room, chance[3:6], weight=chance[6] / _WEIGHT if chance[6] < _WEIGHT else None)
    if other is not None:
        ink = np.maximum(ink, _edge(other, whole, room, chance[7]))
    colours = draw_colours(rng)
    pixels = np.broadcast_to(colours.ground, (whole, whole, 3))
    if plate:
        shape = _plate(whole, size * (1 + room), chance[8])[..., None]
        pixels = pixels + shape * (colours.plate - pixels)
    pixels = pixels + ink[..., None] * (colours.ink - pixels)
    drawn = PilImage.fromarray(pixels.astype(np.uint8))
    if chance[9] < _BLUR:
        drawn = drawn.filter(ImageFilter.GaussianBlur(0.2 + 0.4 * float(chance[10])))
    return np.asarray(drawn.resize((SIDE, SIDE), PilImage.Resampling.BILINEAR))


def draw_colours(rng: np.random.Generator) -> Colours:
    """Random colours: ink is lighter or darker by :data:`CONTRAST` than the plate, and than the ground."""
    while True:
        colours = rng.random((3, 3), np.float32)
        if rng.random() < 0.5:  # as on most pages
            colours[0] = colours[0].mean() ** 0.2 if rng.random() < 0.6 else colours[0].mean() * 0.25
        lightness = colours @ _LUMA
        if abs(lightness[2] - lightness[0]) >= CONTRAST and abs(lightness[2] - lightness[1]) >= CONTRAST:
            return Colours(*(255 * colours))


def _placed(
    icon: Grey, whole: int, room: float, place: NDArray[np.float64], weight: float | None
) -> NDArray[np.float32]:
    """Coverage ``[whole, whole]`` of the icon's ink, with ``room`` around it, off centre, and a little squeezed."""
    canvas = PilImage.new("L", (2 * icon.shape[1], 2 * icon.shape[0]))
    image = PilImage.fromarray(icon)
    if weight is not None:
        image = image.filter(ImageFilter.MaxFilter(3) if weight > 0.4 else ImageFilter.GaussianBlur(1))
    canvas.paste(image, (icon.shape[1] // 2, icon.shape[0] // 2))
    left, top, right, bottom = canvas.getbbox() or (0, 0, *canvas.size)
    side = max(right - left, bottom - top)
    half = side * (0.5 + room)
    x, y = (
        (first + last) / 2 + (2 * at - 1) * min(0.1, room + 0.02) * side
        for first, last, at in ((left, right, place[0]), (top, bottom, place[1]))
    )
    squeeze = 1 + 0.12 * (2 * place[2] - 1)
    wide, high = min(half * squeeze, x, canvas.width - x), min(half / squeeze, y, canvas.height - y)
    box = (x - wide, y - high, x + wide, y + high)
    return _shares(canvas.resize((whole, whole), PilImage.Resampling.BILINEAR, box))


def _edge(other: Grey, whole: int, room: float, place: float) -> NDArray[np.float32]:
    """Coverage ``[whole, whole]`` of a neighbour, of which a strip is seen at one side."""
    strip = max(1, round(whole * (0.04 + 0.08 * min(room, 0.35) / 0.35)))
    small = _shares(PilImage.fromarray(other).resize((whole, whole), PilImage.Resampling.BILINEAR))
    out = np.zeros((whole, whole), np.float32)
    ink = np.flatnonzero(small.max(0) > 0.2)
    first = int(ink[0]) if len(ink) else 0
    piece = small[:, first : first + strip]
    out[:, whole - piece.shape[1] :] = piece
    return np.rot90(out, int(4 * place))


def _plate(whole: int, side: float, roundness: float) -> NDArray[np.float32]:
    """Coverage of a disc or a rounded square of ``side`` pixels in the middle."""
    mask = PilImage.new("L", (4 * whole, 4 * whole))
    ends = (2 * (whole - side), 2 * (whole + side) - 1)
    radius = 2 * side if roundness < 0.5 else 2 * side * (roundness - 0.5)
    ImageDraw.Draw(mask).rounded_rectangle((ends[0], ends[0], ends[1], ends[1]), radius, fill=255)
    return _shares(mask.resize((whole, whole), PilImage.Resampling.BOX))


def _shares(image: PilImage.Image) -> NDArray[np.float32]:
    return np.asarray(np.asarray(image, np.float32) / np.float32(255), np.float32)
