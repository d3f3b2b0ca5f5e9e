"""What a model says of every cell of an image of any size: it sees tiles that overlap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from openpali.infer.batches import chunked
from openpali.tasks.example import Image, Size
from openpali_screen.vit import CELL

TILES = 4  # of a batch: what is known of more leaves the cache of a core


def cells_of(
    say: Callable[[Tensor, Sequence[int]], Tensor], image: Image, tile: Size, device: torch.device
) -> Tensor:
    """Run ``say`` on overlapping tiles, and stitch its outputs: float ``[C, H / 4, W / 4]``, rounded up.

    It is asked once about all tiles of one colour, such as the margins of a page.

    Args:
        say: tiles ``[B, H, W, 3]`` uint8, and how many of the image are like each -> ``[B, C, h, w]``.
        image: ``[H, W, 3]`` uint8.
        device: where ``say`` takes tiles; what is returned is on the CPU.
    """
    height, width = image.shape[:2]
    tops, lefts = (_starts(side, own) for side, own in ((height, tile.height), (width, tile.width)))
    places = [(top, left) for top in tops for left in lefts]
    tiles = [image[top : top + tile.height, left : left + tile.width] for top, left in places]
    plain: dict[bytes, int] = {}  # colour -> the first tile of it
    like = [
        plain.setdefault(each[0, 0].tobytes(), number) if _is_plain(each) else number
        for number, each in enumerate(tiles)
    ]
    counts = Counter(like)
    asked = list(counts)
    said: dict[int, Tensor] = {}
    for some in chunked(asked, TILES):
        batch = torch.from_numpy(np.stack([_whole(tiles[number], tile) for number in some])).to(device)
        told = say(batch, [counts[number] for number in some]).float().cpu()
        said.update(zip(some, told, strict=True))
    found = torch.zeros(said[0].shape[0], -(-height // CELL), -(-width // CELL))
    for (top, left), number in zip(places, like, strict=True):
        skip = [
            _shared(side) // 2 // CELL if start else 0 for start, side in ((top, tile.height), (left, tile.width))
        ]
        row, column = top // CELL + skip[0], left // CELL + skip[1]
        target = found[:, row:, column:]
        part = said[number][:, skip[0] :, skip[1] :][:, : target.shape[1], : target.shape[2]]
        target[:, : part.shape[1], : part.shape[2]] = part
    return found


def _whole(part: Image, tile: Size) -> Image:
    """A tile that reaches beyond the image, filled up with the pixels of its edge."""
    missing = tile.height - part.shape[0], tile.width - part.shape[1]
    return np.pad(part, (*((0, pixels) for pixels in missing), (0, 0)), mode="edge")


def _is_plain(tile: Image) -> bool:
    """Whether a tile has one colour; most differ in a few of their pixels already."""
    return bool((tile[::16, ::16] == tile[0, 0]).all() and (tile == tile[0, 0]).all())


def _starts(side: int, tile: int) -> list[int]:
    """Where tiles start that cover ``side`` pixels."""
    return list(range(0, max(1, side - _shared(tile)), tile - _shared(tile)))


def _shared(tile: int) -> int:
    """Pixels that neighbouring tiles share, a quarter of each: near its edges a tile sees half of things."""
    return tile // (8 * CELL) * 2 * CELL
