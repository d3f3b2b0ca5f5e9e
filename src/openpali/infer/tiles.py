"""What a model says of every cell of an image of any size: it sees tiles that overlap."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from openpali.model.pages import CELL
from openpali.tasks.example import Image, Size

TILES = 8  # of a batch


def cells_of(say: Callable[[Tensor], Tensor], image: Image, tile: Size, device: torch.device) -> Tensor:
    """What ``say`` tells of tiles, put together: float ``[C, H / 4, W / 4]``, rounded up.

    Args:
        say: tiles ``[B, H, W, 3]`` uint8 -> ``[B, C, h, w]``.
        image: ``[H, W, 3]`` uint8.
        device: where ``say`` takes tiles; what is returned is on the CPU.
    """
    height, width = image.shape[:2]
    tops, lefts = (_starts(side, own) for side, own in ((height, tile.height), (width, tile.width)))
    bottom, right = tops[-1] + tile.height - height, lefts[-1] + tile.width - width
    padded = np.pad(image, ((0, bottom), (0, right), (0, 0)), mode="edge")
    places = [(top, left) for top in tops for left in lefts]
    found: Tensor | None = None
    for first in range(0, len(places), TILES):
        some = places[first : first + TILES]
        tiles = np.stack([padded[top : top + tile.height, left : left + tile.width] for top, left in some])
        said = say(torch.from_numpy(tiles).to(device)).float().cpu()
        if found is None:
            found = torch.zeros(said.shape[1], -(-height // CELL), -(-width // CELL))
        for (top, left), own in zip(some, said, strict=True):
            skip = [
                _shared(side) // 2 // CELL if start else 0
                for start, side in ((top, tile.height), (left, tile.width))
            ]
            row, column = top // CELL + skip[0], left // CELL + skip[1]
            target = found[:, row:, column:]
            part = own[:, skip[0] :, skip[1] :][:, : target.shape[1], : target.shape[2]]
            target[:, : part.shape[1], : part.shape[2]] = part
    assert found is not None
    return found


def _starts(side: int, tile: int) -> list[int]:
    """Where tiles start that cover ``side`` pixels."""
    return list(range(0, max(1, side - _shared(tile)), tile - _shared(tile)))


def _shared(tile: int) -> int:
    """Pixels that neighbouring tiles share, a quarter of each: near its edges a tile sees half of things."""
    return tile // (8 * CELL) * 2 * CELL
