"""A ViT with a head over class names: the classification control of the paper's Table 1."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from openpali.architectures.base import Architecture
from openpali.architectures.siglip.architecture import PRESETS
from openpali.model.vit import Block, Classifier, ViTConfig


@dataclass(frozen=True)
class ClassifierConfig:
    """Shape of the ViT, and the names of its classes."""

    vision: ViTConfig
    labels: tuple[str, ...]


class ClassifierArchitecture(Architecture[ClassifierConfig]):
    kind = "classifier"
    labelled = True
    config = ClassifierConfig
    presets = {name: ClassifierConfig(shape.vision, ()) for name, shape in PRESETS.items()}
    blocks = {Block: ()}

    def build(self, config: ClassifierConfig) -> nn.Module:
        return Classifier(config.vision, len(config.labels))
