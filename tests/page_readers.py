"""A finder and a reader of pages that write something everywhere, and a finder of elements that finds some."""

from __future__ import annotations

from pathlib import Path

import torch

from openpali.data.pipeline.elements import ROLES
from openpali.model.elements import ElementFinder, ElementFinderConfig
from openpali.model.init import materialise
from openpali.model.pages import Finder, FinderConfig, Reader, ReaderConfig
from openpali.model.vit import ViTConfig
from openpali.weights.write import write_model


def write_page_readers(folder: Path) -> None:
    """Write the parts ``finder``, which takes everything for text, ``reader`` and ``elements``, with random
    weights."""

    def vision(*grid: int) -> ViTConfig:
        return ViTConfig(16, (grid[0], grid[1]), width=32, depth=1, mlp_dim=32, heads=2)

    torch.manual_seed(1)
    with torch.device("meta"):
        finder = Finder(FinderConfig(vision(4, 4)))
        elements = ElementFinder(ElementFinderConfig(vision(4, 4), ROLES))
        reader = Reader(ReaderConfig(vision(2, 8), tuple(" <ab&")))
    materialise(finder)
    materialise(reader)
    materialise(elements)
    with torch.no_grad():
        finder.head.bias[0] = 9
        reader.head.weight *= 20
        elements.head.bias[ROLES.index("button")] = 0
    for name, part in (("finder", finder), ("reader", reader), ("elements", elements)):
        write_model(folder / name, part.state_dict(), part.config, preprocess=None, tokenizer=None)
