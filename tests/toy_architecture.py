"""A package that adds an architecture: this file, and the entry point in the folder ``toy``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from openpali.architectures.base import Architecture, Exported, Stored
from openpali.architectures.facts import Facts
from openpali.architectures.pali import PaliArchitecture, PaliModel, PaliModelConfig
from openpali.architectures.rules import Rule, read, read_config, skeleton, write
from openpali.data.media.images import Preprocess
from openpali.extensions import Extension
from openpali.model.layers import Dense
from openpali.model.t5 import T5Config
from openpali.model.vit import ViTConfig
from openpali.tensors import MappedTensors
from openpali.text.load import load_tokenizer

EXTENSION = Extension(architectures={"toy": "toy_architecture:ToyArchitecture"})

VISION = ViTConfig(patch_size=4, grid=(2, 2), width=8, depth=1, mlp_dim=8, heads=2)
TEXT = T5Config(4096, d_model=16, d_head=8, heads=2, d_ff=24, encoder_layers=1, decoder_layers=1)


@dataclass(frozen=True)
class ToyConfig:
    vision: ViTConfig
    text: T5Config
    hidden: int


class Bottleneck(nn.Module):
    """What follows the projection of a toy: its one block of its own."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.down, self.up = Dense(width, hidden), Dense(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(self.down(x).relu())


class ToyModel(PaliModel):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(PaliModelConfig(config.vision, config.text))
        self.bottleneck = Bottleneck(config.text.d_model, config.hidden)

    def visual(self, patches_BND: Tensor) -> Tensor:
        return self.bottleneck(super().visual(patches_BND))


class ToyArchitecture(Architecture[ToyConfig]):
    kind = "toy"
    config = ToyConfig
    network = ToyModel
    answers = True
    blocks = {**PaliArchitecture.blocks, Bottleneck: ()}  # noqa: RUF012
    presets = {"toy": ToyConfig(VISION, TEXT, hidden=6)}  # noqa: RUF012
    model_types = ("toy",)

    def for_training(self, config: ToyConfig, vocabulary: int, dropout: float) -> ToyConfig:
        return replace(config, text=replace(config.text, vocab_size=vocabulary, dropout=dropout))

    def rules(self, config: ToyConfig) -> list[Rule]:
        return [Rule((key,), (f"toy.{key}",)) for key in skeleton(lambda: ToyModel(config))]

    def read(self, source: Path) -> Stored[ToyConfig]:
        described = read_config(source)
        vision = ViTConfig(**{**described["vision"], "grid": tuple(described["vision"]["grid"])})
        config = ToyConfig(vision, T5Config(**described["text"]), described["hidden"])
        weights = read(self.rules(config), skeleton(lambda: ToyModel(config)), MappedTensors(source), str(source))
        tokenizer = load_tokenizer(source / "tokenizer.model")
        return Stored(
            config, weights, Preprocess(*vision.image_size), tokenizer, Facts(parts={"model": str(source)})
        )

    def write(self, model: Stored[ToyConfig]) -> dict[str, Exported]:
        described = {"model_type": "toy", **asdict(model.config)}
        weights = write(self.rules(model.config), model.weights)
        return {"": Exported(weights, {"config.json": described}, "tokenizer.model")}
