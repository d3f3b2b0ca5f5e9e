"""Backgrounds: each has an id such as ``stripes-48151``, and its pixels are a pure function of that id.

A tenth of the ids is held out (:func:`openpali_lab.worlds.splits.is_heldout`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageDraw

from openpali.reports.fonts import font
from openpali.rng import named_generator
from openpali.tasks.example import Image
from openpali_lab.worlds.splits import Split, is_heldout
from openpali_lab.worlds.world import World

Rng = np.random.Generator
Coordinates = NDArray[np.float32]


def pick(rng: Rng, split: Split, *, but: str = "") -> str:
    """The id of a random background of ``split``, of any kind except ``but``."""
    while True:
        kind = KINDS[int(np.searchsorted(_CUMULATIVE, rng.random()))]
        name = f"{kind}-{int(rng.random() * 2**20)}"
        if kind != but and is_heldout("background", name) == (split == "heldout"):
            return name


def render(name: str, canvas: int, world: World) -> Image:
    """The background ``name`` as uint8 [canvas, canvas, 3]."""
    kind = name.split("-")[0]
    return _PAINTERS[kind][1](named_generator("background", name), canvas, world)


def pale(image: Image) -> Image:
    """``image`` made bright, with .35 of its contrast: like paper or a sign."""
    return np.asarray(255 - 0.35 * (255 - image.astype(np.float32)), dtype=np.uint8)


def _colour(rng: Rng) -> NDArray[np.float32]:
    return (rng.random(3, dtype=np.float32) * 255).astype(np.float32)


def _near(rng: Rng, colour: NDArray[np.float32], spread: float = 60) -> NDArray[np.float32]:
    """Another colour, each channel within ``spread`` of ``colour``."""
    return np.clip(colour + (rng.random(3, dtype=np.float32) - 0.5) * 2 * spread, 0, 255).astype(np.float32)


@lru_cache(maxsize=8)
def _coordinates(canvas: int) -> tuple[Coordinates, Coordinates]:
    """x and y of the pixels, each float32 [canvas, canvas], from -1/2 to 1/2."""
    line = (np.arange(canvas, dtype=np.float32) + 0.5) / canvas - 0.5
    return np.broadcast_to(line[None, :], (canvas, canvas)), np.broadcast_to(line[:, None], (canvas, canvas))


def _along(rng: Rng, canvas: int) -> Coordinates:
    """Position of each pixel along a random direction, float32 [canvas, canvas], about -0.7 to 0.7."""
    x, y = _coordinates(canvas)
    angle = rng.random() * 2 * np.pi
    return np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y


def _plain(rng: Rng, canvas: int, world: World) -> Image:
    return np.broadcast_to(_colour(rng).astype(np.uint8), (canvas, canvas, 3)).copy()


def _gradient(rng: Rng, canvas: int, world: World) -> Image:
    first, last = _colour(rng), _colour(rng)
    steps = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    palette = (first + (last - first) * steps).astype(np.uint8)
    return _paint(palette, ((_along(rng, canvas) + 0.71) * 179).astype(np.uint8))


def _noise(rng: Rng, canvas: int, world: World) -> Image:
    """Clouds: a coarse grid of similar colours, upsampled bilinearly."""
    cells = int(rng.integers(3, 24))
    spread = 20 + 60 * rng.random()
    grid = np.clip(_colour(rng) + (rng.random((cells, cells, 3), dtype=np.float32) - 0.5) * 2 * spread, 0, 255)
    small = PILImage.fromarray(grid.astype(np.uint8), "RGB")
    return np.array(small.resize((canvas, canvas), PILImage.Resampling.BILINEAR))


def _stripes(rng: Rng, canvas: int, world: World) -> Image:
    first = _colour(rng)
    palette = np.stack([first, _near(rng, first, 90)]).astype(np.uint8)
    count = 3 + 9 * rng.random()
    return _paint(palette, np.floor(_along(rng, canvas) * count).astype(np.int8) & 1)


def _checks(rng: Rng, canvas: int, world: World) -> Image:
    first = _colour(rng)
    palette = np.stack([first, _near(rng, first, 90)]).astype(np.uint8)
    count = 3 + 7 * rng.random()
    x, y = _coordinates(canvas)
    return _paint(palette, (np.floor(x * count).astype(np.int8) + np.floor(y * count).astype(np.int8)) & 1)


def _blobs(rng: Rng, canvas: int, world: World) -> Image:
    base = _colour(rng)
    image = PILImage.new("RGB", (canvas, canvas), _rgb(base))
    draw = ImageDraw.Draw(image)
    for x, y, width, height in rng.random((int(rng.integers(3, 9)), 4)) * canvas:
        half = (0.1 * canvas + 0.3 * width) / 2, (0.1 * canvas + 0.3 * height) / 2
        draw.ellipse((x - half[0], y - half[1], x + half[0], y + half[1]), fill=_rgb(_near(rng, base, 80)))
    return np.array(image)


def _pattern(rng: Rng, canvas: int, world: World) -> Image:
    """A random square of a clip art texture."""
    pattern = world.patterns[int(rng.integers(len(world.patterns)))]
    side = (0.4 + 0.6 * rng.random()) * min(pattern.size)
    left, top = rng.random() * (pattern.width - side), rng.random() * (pattern.height - side)
    box = (left, top, left + side, top + side)
    return np.array(pattern.resize((canvas, canvas), PILImage.Resampling.BILINEAR, box=box))


def _symbols(rng: Rng, canvas: int, world: World) -> Image:
    """Small clip art at random places on a plain colour."""
    image = PILImage.new("RGB", (canvas, canvas), _rgb(_colour(rng)))
    for x, y, size in rng.random((int(rng.integers(2, 6)), 3)):
        symbol = world.symbols[int(rng.integers(len(world.symbols)))]
        scale = canvas * (0.12 + 0.16 * size) / max(symbol.size)
        width, height = max(1, round(symbol.width * scale)), max(1, round(symbol.height * scale))
        small = symbol.resize((width, height), PILImage.Resampling.BOX, reducing_gap=1.0)
        image.paste(small, (round(x * (canvas - width)), round(y * (canvas - height))), small)
    return np.array(image)


def _text(rng: Rng, canvas: int, world: World) -> Image:
    """Faint letters at random places on a plain colour."""
    base = _colour(rng)
    image = PILImage.new("RGB", (canvas, canvas), _rgb(base))
    draw = ImageDraw.Draw(image)
    files = world.fonts["Latn"]
    for x, y, size in rng.random((int(rng.integers(3, 8)), 3)):
        letters = "".join(chr(97 + int(r * 26)) for r in rng.random(int(rng.integers(1, 6))))
        letters = letters.upper() if rng.random() < 0.5 else letters
        place = ((x - 0.1) * canvas, (y - 0.1) * canvas)
        face = font(files[int(rng.integers(len(files)))], round(canvas * (0.08 + 0.12 * size)))
        draw.text(place, letters, fill=_rgb(_near(rng, base, 70)), font=face)
    return np.array(image)


def _paint(palette: NDArray[np.uint8], indices: NDArray[np.integer[Any]]) -> Image:
    """Palette [N, 3] and indices [H, W] -> image [H, W, 3]."""
    image: Image = palette.take(indices, axis=0)
    return image


def _rgb(colour: NDArray[np.float32]) -> tuple[int, int, int]:
    red, green, blue = (int(channel) for channel in colour)
    return red, green, blue


# kind -> (share of the backgrounds, painter)
_PAINTERS: dict[str, tuple[float, Callable[[Rng, int, World], Image]]] = {
    "plain": (0.22, _plain),
    "gradient": (0.18, _gradient),
    "noise": (0.15, _noise),
    "stripes": (0.08, _stripes),
    "checks": (0.07, _checks),
    "blobs": (0.08, _blobs),
    "pattern": (0.08, _pattern),
    "symbols": (0.07, _symbols),
    "text": (0.07, _text),
}
KINDS = tuple(_PAINTERS)
_CUMULATIVE = np.cumsum([share for share, _ in _PAINTERS.values()])
_CUMULATIVE[-1] = 1.0
