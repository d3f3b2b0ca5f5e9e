"""Presets: the shapes of every size, from a laptop's to the paper's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from openpali.model.mask_vqvae import MaskVQVAEConfig
from openpali.model.pali import PaliConfig
from openpali.model.siglip import SigLIPConfig, TextTowerConfig
from openpali.model.t5 import T5Config
from openpali.model.vit import ViTConfig


@dataclass(frozen=True)
class Preset:
    """All shapes of one size. ``language`` and ``text_tower`` are (re)sized to a tokenizer by the caller."""

    vision: ViTConfig
    text_tower: TextTowerConfig
    language: T5Config
    masks: MaskVQVAEConfig = field(default_factory=MaskVQVAEConfig)

    @property
    def pali(self) -> PaliConfig:
        return PaliConfig(self.vision, self.language)

    @property
    def siglip(self) -> SigLIPConfig:
        return SigLIPConfig(self.vision, self.text_tower)


# vocabularies: T5's 32k pieces + 128 mask tokens + 3 modes in our tokenizer; mT5's 250k for 100+ languages
_T5_VOCAB = 32_256
_MT5_VOCAB = 250_368

PRESETS: Mapping[str, Preset] = {
    # what one laptop core trains in hours
    "nano": Preset(
        vision=ViTConfig(patch_size=12, grid=(6, 6), width=192, depth=6, mlp_dim=768, heads=3),
        text_tower=TextTowerConfig(vocab_size=6144, length=24, width=160, depth=4, mlp_dim=640, heads=4),
        language=T5Config(
            vocab_size=6144, d_model=192, d_head=32, heads=6, d_ff=512, encoder_layers=3, decoder_layers=3
        ),
        masks=MaskVQVAEConfig(width=64, code_dim=32),
    ),
    # ~30M parameters: what one data-centre GPU trains in half an hour
    "mini": Preset(
        vision=ViTConfig(patch_size=16, grid=(6, 6), width=384, depth=8, mlp_dim=1536, heads=6),
        text_tower=TextTowerConfig(vocab_size=16_384, length=32, width=256, depth=6, mlp_dim=1024, heads=4),
        language=T5Config(
            vocab_size=16_384, d_model=256, d_head=64, heads=4, d_ff=768, encoder_layers=4, decoder_layers=4
        ),
    ),
    # SigLIP B/16 and T5 v1.1 base
    "base": Preset(
        vision=ViTConfig(patch_size=16, grid=(14, 14), width=768, depth=12, mlp_dim=3072, heads=12),
        text_tower=TextTowerConfig(vocab_size=32_000, length=64, width=768, depth=12, mlp_dim=3072, heads=12),
        language=T5Config(
            vocab_size=_T5_VOCAB,
            d_model=768,
            d_head=64,
            heads=12,
            d_ff=2048,
            encoder_layers=12,
            decoder_layers=12,
            activation="gelu",
        ),
    ),
    # SigLIP So400m/14 and T5 v1.1 XL
    "large": Preset(
        vision=ViTConfig(patch_size=14, grid=(16, 16), width=1152, depth=27, mlp_dim=4304, heads=16),
        text_tower=TextTowerConfig(vocab_size=32_000, length=16, width=1152, depth=27, mlp_dim=4304, heads=16),
        language=T5Config(
            vocab_size=_T5_VOCAB,
            d_model=2048,
            d_head=64,
            heads=32,
            d_ff=5120,
            encoder_layers=24,
            decoder_layers=24,
            activation="gelu",
        ),
    ),
    # ViT-G/14 and UL2 3B with mT5's vocabulary: 100+ languages need it, and it makes the paper's 5B
    "pali3-5b": Preset(
        vision=ViTConfig(patch_size=14, grid=(16, 16), width=1664, depth=48, mlp_dim=8192, heads=16),
        text_tower=TextTowerConfig(vocab_size=250_000, length=64, width=1152, depth=27, mlp_dim=4304, heads=16),
        language=T5Config(
            vocab_size=_MT5_VOCAB,
            d_model=2048,
            d_head=64,
            heads=32,
            d_ff=5120,
            encoder_layers=24,
            decoder_layers=24,
            activation="silu",
        ),
    ),
}
