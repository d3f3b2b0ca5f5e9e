"""PaLI: a ViT and an encoder-decoder. Assembled from a public image encoder and a public language model, as PaLI-3
starts before its first stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from openpali.architectures.base import Architecture, Exported, Stored
from openpali.architectures.facts import Facts
from openpali.architectures.halves.t5 import read_t5, write_t5
from openpali.architectures.preprocessor import (
    describe_preprocess,
    read_native,
    read_preprocess,
    warn_inexpressible,
)
from openpali.architectures.siglip.architecture import PRESETS as SIGLIP
from openpali.architectures.siglip.architecture import extend_rows, read_image_encoder, write_vit
from openpali.architectures.tokenizer import describe_tokenizer, read_tokenizer, require_rows
from openpali.model.cache import Cache
from openpali.model.init import materialise
from openpali.model.layers import Dense
from openpali.model.t5 import DecoderLayer, EncoderDecoder, EncoderLayer, T5Config
from openpali.model.vision_language import Head, Memory, VisionLanguageModel
from openpali.model.vit import Block, ViT, ViTConfig


@dataclass(frozen=True)
class PaliModelConfig:
    """Shapes of the two halves."""

    vision: ViTConfig
    text: T5Config


class PaliModel(VisionLanguageModel):
    """PaLI-3: the language model is an encoder-decoder."""

    first = VisionLanguageModel.pad  # as in T5
    vit: ViT

    def __init__(self, config: PaliModelConfig) -> None:
        super().__init__(config.vision, Dense(config.vision.width, config.text.d_model))
        self.config = config
        self.text = EncoderDecoder(config.text)

    def embed_prompt(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        return self.text.embed(prompt), prompt != self.pad

    def decode(self, targets: Tensor, memory: Memory) -> Tensor:
        return self.text.decode(self.shift(targets), *memory)

    @property
    def head(self) -> Head:
        return Head(self.text.head_weight)

    def start(self, memory: Memory, max_length: int) -> Cache:
        return self.text.start(*memory, max_length)


# vocabularies: T5's 32k pieces + 128 mask tokens + 3 modes in our tokenizer; mT5's 250k for 100+ languages
_T5_XL = T5Config(
    vocab_size=32_256,
    d_model=2048,
    d_head=64,
    heads=32,
    d_ff=5120,
    encoder_layers=24,
    decoder_layers=24,
    activation="gelu",
)
_T5_BASE = replace(_T5_XL, d_model=768, heads=12, d_ff=2048, encoder_layers=12, decoder_layers=12)
_UL2 = replace(_T5_XL, vocab_size=250_368, activation="silu")
_NANO = T5Config(6144, d_model=192, d_head=32, heads=6, d_ff=512, encoder_layers=3, decoder_layers=3)
_LANGUAGE = {
    # for tests and dry runs
    "pico": T5Config(1024, d_model=32, d_head=16, heads=2, d_ff=64, encoder_layers=1, decoder_layers=1),
    # one laptop core trains it in hours
    "nano": _NANO,
    # nano with an image encoder of twice the depth
    "nano-deep": _NANO,
    # ~30M parameters: one data-centre GPU trains it in half an hour
    "mini": T5Config(16_384, d_model=256, d_head=64, heads=4, d_ff=768, encoder_layers=4, decoder_layers=4),
    "base": _T5_BASE,  # T5 v1.1 base
    "large": _T5_XL,  # T5 v1.1 XL
    # UL2 3B with mT5's vocabulary for 100+ languages: with ViT-G/14 the paper's 5B
    "pali3-5b": _UL2,
    # the same with the smaller image encoders of the paper's Table 1
    "pali3-b16": _UL2,
    "pali3-l16": _UL2,
}
PRESETS: Mapping[str, PaliModelConfig] = {
    name: PaliModelConfig(SIGLIP[name].vision, language) for name, language in _LANGUAGE.items()
}


class PaliArchitecture(Architecture[PaliModelConfig]):
    """PaLI-3 itself. :func:`assemble` makes one of public halves."""

    kind = "pali"
    config = PaliModelConfig
    network = PaliModel
    answers = True
    native = True
    presets = PRESETS
    sides = (224, 448, 812, 1064)  # the paper's three, and 448
    blocks = {Block: (), EncoderLayer: (), DecoderLayer: ("cross.key_value",)}
    model_type = "openpali"
    engine_language = "openpali.infer.engines.languages:Language"

    def for_training(self, config: PaliModelConfig, vocabulary: int, dropout: float) -> PaliModelConfig:
        return replace(config, text=replace(config.text, vocab_size=vocabulary, dropout=dropout))

    def write(self, model: Stored[PaliModelConfig]) -> dict[str, Exported]:
        """Both halves, without the projection; ``interop.transformers`` opens the whole."""
        assert model.tokenizer is not None
        warn_inexpressible(
            "transformers' two classes have no place for the projection between them: "
            "openpali.interop.transformers opens the whole model"
        )
        vit, text = (_part(model.weights, name) for name in ("vit", "text"))
        weights, described = write_vit(vit, model.config.vision)
        images = Exported(weights, {**describe_preprocess(model.preprocess), "config.json": described})
        weights, described = write_t5(text, model.config.text)
        files = {
            "tokenizer_config.json": describe_tokenizer(model.tokenizer, "T5Tokenizer", extra_ids=0),
            "config.json": described,
        }
        return {"vision": images, "text": Exported(weights, files, "spiece.model")}


def assemble(vision: Path, text: Path) -> Stored[PaliModelConfig]:
    """A PaLI of public halves: the ViT, a new projection, and the encoder-decoder with an extended vocabulary.

    Args:
        vision: a source for :func:`read_image_encoder`; a MAP head and a text tower are read, checked and dropped.
        text: a T5-family checkpoint of transformers with its tokenizer.
    """
    image, language = read_image_encoder(vision), read_t5(text)
    tokenizer, known = read_tokenizer(text)
    require_rows(text, known, language.config.vocab_size)
    generator = torch.Generator().manual_seed(0)
    texts = dict(language.weights)
    config = PaliModelConfig(image.vision, replace(language.config, vocab_size=tokenizer.vocab_size))
    for name in ("embed.weight", "head.weight"):
        if name in texts:
            texts[name] = extend_rows(texts[name], known, tokenizer.vocab_size, generator)
    facts = Facts(
        parts={"vision": str(vision), "text": str(text)},
        vocabulary={"kept": known, "new": tokenizer.vocab_size - known, "seed": 0},
    )
    weights = {
        **{f"vit.{key}": value for key, value in image.vit.items()},
        **{f"project.{key}": value for key, value in _new_projection(config).items()},
        **{f"text.{key}": value for key, value in texts.items()},
    }
    t = language.config
    about = [
        *image.describe(),
        f"language model: {len(language.weights)} tensors, {t.encoder_layers} + {t.decoder_layers} layers of "
        f"{t.d_model}",
        f"vocabulary: {known} tokens converted, {tokenizer.vocab_size - known} new",
    ]
    v = config.vision
    preprocess = read_native(vision, v.patch_size) if v.tokens else read_preprocess(vision, *v.image_size)
    return Stored(config, weights, preprocess, tokenizer, facts, about)


def _new_projection(config: PaliModelConfig) -> dict[str, Tensor]:
    """The projection of a PaLI without layers."""
    hollow = PaliModelConfig(
        replace(config.vision, depth=0, grid=(1, 1)),
        replace(config.text, vocab_size=1, encoder_layers=0, decoder_layers=0),
    )
    with torch.device("meta"):
        model = PaliModel(hollow)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return materialise(model).project.state_dict()


def _part(weights: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
