"""Networks for pages: they find lines, read lines, and find elements."""

from __future__ import annotations

from dataclasses import replace

from openpali.architectures.base import Architecture
from openpali.architectures.siglip.architecture import PRESETS
from openpali.model.elements import ElementFinder, ElementFinderConfig
from openpali.model.pages import Finder, FinderConfig, Reader, ReaderConfig
from openpali.model.vit import Block, ViTConfig


class FinderArchitecture(Architecture[FinderConfig]):
    """Finds lines of text."""

    kind = "finder"
    config = FinderConfig
    network = Finder
    presets = {name: FinderConfig(replace(shape.vision, patch_size=16)) for name, shape in PRESETS.items()}
    blocks = {Block: ()}


class ReaderArchitecture(Architecture[ReaderConfig]):
    """Reads lines of 32 pixels. A recipe sets the characters of a preset."""

    kind = "reader"
    config = ReaderConfig
    network = Reader
    presets = {
        name: ReaderConfig(replace(shape.vision, patch_size=16, grid=(2, 32)), (), steps=8)
        for name, shape in PRESETS.items()
    }
    blocks = {Block: ()}


def _of_elements(shape: ViTConfig) -> ElementFinderConfig:
    return ElementFinderConfig(32, shape.width, shape.depth, shape.mlp_dim, shape.heads, ())


class ElementFinderArchitecture(Architecture[ElementFinderConfig]):
    """Finds elements. A recipe sets the roles of a preset."""

    kind = "elements"
    config = ElementFinderConfig
    network = ElementFinder
    presets = {name: _of_elements(shape.vision) for name, shape in PRESETS.items()}
    blocks = {Block: ()}
