"""Networks for screens: they find lines, read lines, find elements, and name icons."""

from __future__ import annotations

from dataclasses import replace

from openpali.architectures.base import Architecture
from openpali.architectures.siglip.architecture import PRESETS
from openpali.model.vit import Block, ViTConfig
from openpali_screen.elements.network import ElementFinder, ElementFinderConfig
from openpali_screen.find.network import Finder, FinderConfig
from openpali_screen.icons.network import IconClassifier, IconConfig
from openpali_screen.read.network import Reader, ReaderConfig


class FinderArchitecture(Architecture[FinderConfig]):
    """Finds lines of text."""

    kind = "finder"
    quantizes = False  # its outputs are places, and words change where they move
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


class IconArchitecture(Architecture[IconConfig]):
    """Names icons of 48 pixels. A recipe sets the labels of its preset."""

    kind = "icons"
    labelled = True
    config = IconConfig
    network = IconClassifier
    presets = {"icons": IconConfig(ViTConfig(16, (3, 3), width=192, depth=2, mlp_dim=768, heads=3), ())}
    blocks = {Block: ()}
