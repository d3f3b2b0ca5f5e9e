"""A finder and a reader of pages that write something everywhere, and a finder of elements that finds some."""

from __future__ import annotations

from pathlib import Path

import torch

from openpali.architectures.registry import architecture_of
from openpali.model.init import materialise
from openpali.model.vit import ViTConfig
from openpali.weights.write import write_model
from openpali_screen.elements.encode import ROLES
from openpali_screen.elements.network import ElementFinderConfig
from openpali_screen.find.network import FinderConfig
from openpali_screen.icons.network import IconConfig
from openpali_screen.read.network import ReaderConfig


def _vision(*grid: int) -> ViTConfig:
    return ViTConfig(16, (grid[0], grid[1]), width=32, depth=1, mlp_dim=32, heads=2)


SHAPES = {
    "finder": FinderConfig(_vision(4, 4)),
    "elements": ElementFinderConfig(16, 32, 1, 32, 2, ROLES),
    "reader": ReaderConfig(_vision(2, 8), tuple(" <ab&")),
    "icons": IconConfig(_vision(3, 3), ("cross", "disc")),
}


def write_page_readers(folder: Path) -> None:
    """Write the parts ``finder``, which takes everything for text, ``reader``, ``elements`` and ``icons``,
    with random weights."""
    torch.manual_seed(1)
    with torch.device("meta"):
        parts = {name: architecture_of(shape).build(shape) for name, shape in SHAPES.items()}
    for part in parts.values():
        materialise(part)
    weights = {name: part.state_dict() for name, part in parts.items()}
    weights["finder"]["head.bias"][0] = 9
    weights["reader"]["head.weight"] *= 20
    weights["elements"]["head.down.bias"][[ROLES.index("button"), ROLES.index("icon")]] = 1
    for name, shape in SHAPES.items():
        write_model(folder / name, weights[name], shape, preprocess=None, tokenizer=None)
