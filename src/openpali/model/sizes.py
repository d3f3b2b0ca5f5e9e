"""Presets: the shapes of every model size, from one that a laptop trains to the paper's 5B."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from openpali.model.gemma import GemmaConfig
from openpali.model.int8 import storage_of
from openpali.model.mask_vqvae import MaskVQVAEConfig
from openpali.model.pages import FinderConfig, ReaderConfig
from openpali.model.pali import PaliModel, PaliModelConfig, VisionLanguageModel
from openpali.model.paligemma import PaliGemmaConfig, PaliGemmaModel
from openpali.model.siglip import SigLIPConfig, TextTowerConfig
from openpali.model.t5 import T5Config
from openpali.model.t5gemma2 import T5Gemma2Config, T5Gemma2Model, whole_squares
from openpali.model.vit import ViTConfig


@dataclass(frozen=True)
class Preset:
    """All shapes of one size. The caller sets ``vocab_size`` of both text models to that of its tokenizer."""

    vision: ViTConfig
    text_tower: TextTowerConfig
    language: T5Config
    masks: MaskVQVAEConfig = field(default_factory=MaskVQVAEConfig)

    @property
    def pali(self) -> PaliModelConfig:
        return PaliModelConfig(self.vision, self.language)

    @property
    def siglip(self) -> SigLIPConfig:
        return SigLIPConfig(self.vision, self.text_tower)

    @property
    def finder(self) -> FinderConfig:
        return FinderConfig(replace(self.vision, patch_size=16))

    @property
    def reader(self) -> ReaderConfig:
        """Reads lines of 32 pixels. The caller sets ``characters``."""
        return ReaderConfig(replace(self.vision, patch_size=16, grid=(2, 32)), ())


# vocabularies: T5's 32k pieces + 128 mask tokens + 3 modes in our tokenizer; mT5's 250k for 100+ languages
_T5_VOCAB = 32_256
_MT5_VOCAB = 250_368
_T5_XL = T5Config(
    vocab_size=_T5_VOCAB,
    d_model=2048,
    d_head=64,
    heads=32,
    d_ff=5120,
    encoder_layers=24,
    decoder_layers=24,
    activation="gelu",
)

_NANO = Preset(
    vision=ViTConfig(patch_size=12, grid=(6, 6), width=192, depth=6, mlp_dim=768, heads=3),
    text_tower=TextTowerConfig(vocab_size=6144, length=24, width=160, depth=4, mlp_dim=640, heads=4),
    language=T5Config(
        vocab_size=6144, d_model=192, d_head=32, heads=6, d_ff=512, encoder_layers=3, decoder_layers=3
    ),
    masks=MaskVQVAEConfig(width=64, code_dim=32),
)
_PALI3 = Preset(
    vision=ViTConfig(patch_size=14, grid=(16, 16), width=1664, depth=48, mlp_dim=8192, heads=16),
    text_tower=TextTowerConfig(vocab_size=250_000, length=64, width=1152, depth=27, mlp_dim=4304, heads=16),
    language=replace(_T5_XL, vocab_size=_MT5_VOCAB, activation="silu"),
)

PRESETS: Mapping[str, Preset] = {
    # for tests and dry runs: big_vision's "mu" (width 32, depth 1), with the patches of nano
    "pico": Preset(
        vision=ViTConfig(patch_size=12, grid=(6, 6), width=32, depth=1, mlp_dim=64, heads=2),
        text_tower=TextTowerConfig(vocab_size=1024, length=16, width=32, depth=1, mlp_dim=64, heads=2),
        language=T5Config(
            vocab_size=1024, d_model=32, d_head=16, heads=2, d_ff=64, encoder_layers=1, decoder_layers=1
        ),
        masks=MaskVQVAEConfig(code_dim=8, width=16),
    ),
    # one laptop core trains it in hours
    "nano": _NANO,
    # nano with an image encoder of twice the depth
    "nano-deep": replace(_NANO, vision=replace(_NANO.vision, depth=12)),
    # ~30M parameters: one data-centre GPU trains it in half an hour
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
        language=_T5_XL,
    ),
    # ViT-G/14 and UL2 3B with mT5's vocabulary for 100+ languages: together the paper's 5B
    "pali3-5b": _PALI3,
    # the same with the smaller image encoders of the paper's Table 1
    "pali3-b16": replace(
        _PALI3,
        vision=ViTConfig(patch_size=16, grid=(14, 14), width=768, depth=12, mlp_dim=3072, heads=12),
        text_tower=TextTowerConfig(vocab_size=250_000, length=64, width=768, depth=12, mlp_dim=3072, heads=12),
    ),
    "pali3-l16": replace(
        _PALI3,
        vision=ViTConfig(patch_size=16, grid=(14, 14), width=1024, depth=24, mlp_dim=4096, heads=16),
        text_tower=TextTowerConfig(vocab_size=250_000, length=64, width=1024, depth=24, mlp_dim=4096, heads=16),
    ),
}

_SO400M = ViTConfig(patch_size=14, grid=(16, 16), width=1152, depth=27, mlp_dim=4304, heads=16)
_GEMMA_2B = GemmaConfig(
    vocab_size=257_152, d_model=2048, d_head=256, heads=8, kv_heads=1, d_ff=16_384, layers=18, query_scalar=256
)
_GEMMA2_2B = replace(
    _GEMMA_2B,
    d_model=2304,
    kv_heads=4,
    d_ff=9216,
    layers=26,
    post_norms=True,
    score_cap=50.0,
    logit_cap=30.0,
    window=4096,
)
_GEMMA2_9B = replace(_GEMMA2_2B, d_model=3584, heads=16, kv_heads=8, d_ff=14_336, layers=42)
_GEMMA2_27B = replace(
    _GEMMA2_2B, d_model=4608, d_head=128, heads=32, kv_heads=16, d_ff=36_864, layers=46, query_scalar=144
)

PALIGEMMA: Mapping[str, PaliGemmaConfig] = {
    # SigLIP So400m/14 and Gemma 2B, or Gemma 2 2B, 9B and 27B, as published; at 224, 448 and 896 pixels
    "paligemma-3b": PaliGemmaConfig(_SO400M, _GEMMA_2B),
    "paligemma2-3b": PaliGemmaConfig(_SO400M, _GEMMA2_2B),
    "paligemma2-10b": PaliGemmaConfig(_SO400M, _GEMMA2_9B),
    "paligemma2-28b": PaliGemmaConfig(_SO400M, _GEMMA2_27B),
}
_GEMMA3_270M = GemmaConfig(
    vocab_size=262_208,
    d_model=640,
    d_head=256,
    heads=4,
    kv_heads=1,
    d_ff=2048,
    layers=18,
    query_scalar=256,
    rope_base=1_000_000.0,
    post_norms=True,
    window=512,
    period=6,
    qk_norms=True,
    near_base=10_000.0,
)
_GEMMA3_1B = replace(_GEMMA3_270M, d_model=1152, d_ff=6912, layers=26)
_GEMMA3_4B = replace(
    _GEMMA3_270M, d_model=2560, heads=8, kv_heads=4, d_ff=10_240, layers=34, window=1024, rope_factor=8.0
)
_SO400M_896 = replace(_SO400M, grid=(64, 64))

T5GEMMA2: Mapping[str, T5Gemma2Config] = {
    # SigLIP So400m/14 at 896 pixels, and twice Gemma 3 270M, 1B or 4B
    "t5gemma2-270m": T5Gemma2Config(_SO400M_896, _GEMMA3_270M, _GEMMA3_270M),
    "t5gemma2-1b": T5Gemma2Config(_SO400M_896, _GEMMA3_1B, _GEMMA3_1B),
    "t5gemma2-4b": T5Gemma2Config(_SO400M_896, _GEMMA3_4B, _GEMMA3_4B),
}
Shapes = Preset | PaliGemmaConfig | T5Gemma2Config
SIZES: Mapping[str, Shapes] = {**PRESETS, **PALIGEMMA, **T5GEMMA2}

PARTS = ("vision", "project", "encoder", "decoder", "embedding", "head")


def count_parameters(preset: Shapes) -> dict[str, int]:
    """Parameters of each of :data:`PARTS` of a model of this size; nothing is allocated.

    ``encoder`` and ``decoder`` belong to the language model and include norms and position biases. ``encoder`` is 0
    if there is none, as in PaliGemma, and ``head`` if it is tied to the embedding.
    """
    model = _hollow(preset)
    prefixes: tuple[str | tuple[str, ...], ...] = (
        "vit.",
        "project.",
        "text.encoder",
        ("text.decoder", "text.layers.", "text.norm."),
        "text.embed",
        "text.head.",
    )
    return {
        part: sum(p.numel() for name, p in model.named_parameters() if name.startswith(prefix))
        for part, prefix in zip(PARTS, prefixes, strict=True)
    }


def _hollow(preset: Shapes) -> VisionLanguageModel:
    with torch.device("meta"):
        match preset:
            case PaliGemmaConfig():
                return PaliGemmaModel(preset)
            case T5Gemma2Config():
                return T5Gemma2Model(preset)
            case Preset():
                return PaliModel(preset.pali)


def int8_bytes(preset: Shapes) -> int:
    """Bytes of the tensors of a model of this size as ``openpali quantize`` writes it; nothing is allocated."""
    model = _hollow(preset)
    stored = storage_of(model)
    return sum(tensor.numel() * stored[name].itemsize for name, tensor in model.state_dict().items())


def parameters_per_token(model: PaliModel) -> int:
    """Parameters read per generated token: the head, and the decoder without the projections of cross-attention's
    keys and values, which are computed once."""
    decoder = sum(
        p.numel()
        for name, p in model.text.named_parameters()
        if name.startswith("decoder") and ".cross.key_value." not in name
    )
    return decoder + model.text.head_weight.numel()


def count_tokens(preset: Shapes, size: tuple[int, int] | None = None) -> int:
    """Visual tokens of one image of ``size`` (height, width in pixels; None: the preset's own).

    Raises:
        ValueError: a side is not a multiple of the patch, or of the square of patches that T5Gemma 2 averages.
    """
    height, width = size or preset.vision.image_size
    patch = preset.vision.patch_size
    if height % patch or width % patch:
        raise ValueError(f"{height} x {width} pixels do not divide into patches of {patch}: use multiples of it")
    grid = height // patch, width // patch
    if isinstance(preset, T5Gemma2Config):
        whole_squares(preset.pool, replace(preset.vision, grid=grid))
        return grid[0] * grid[1] // preset.pool**2
    return grid[0] * grid[1]


def flops_per_image(
    preset: Shapes, size: tuple[int, int] | None = None, *, frames: int = 1, prompt: int = 0
) -> int:
    """Floating-point operations before the first token, the sum of :func:`flops_of_stages`."""
    return sum(flops_of_stages(preset, size, frames=frames, prompt=prompt).values())


def flops_of_stages(
    preset: Shapes, size: tuple[int, int] | None = None, *, frames: int = 1, prompt: int = 0
) -> dict[str, int]:
    """Floating-point operations before the first token: "vision" (ViT and projection), "encoder" (of PaliGemma: the
    prefix through Gemma), and "memory" (the decoder's keys and values of the encoder's outputs).

    Counts matmuls only, two operations per multiply-add.

    Args:
        preset: the size.
        size: as for :func:`count_tokens`.
        frames: images per prompt.
        prompt: its length in tokens.
    """
    v, tokens = preset.vision, count_tokens(preset, size)
    patches: int = tokens * (preset.pool**2 if isinstance(preset, T5Gemma2Config) else 1)
    block = 4 * v.width**2 + 2 * v.width * v.mlp_dim + 2 * patches * v.width  # multiply-adds per patch
    t, memory = decoder_of(preset), _memory(preset, frames * tokens, frames, prompt)
    vision = patches * (3 * v.patch_size**2 * v.width + v.depth * block) + tokens * v.width * t.d_model
    costs = {"vision": 2 * frames * vision}
    inner = t.heads * t.d_head
    if isinstance(preset, T5Gemma2Config):
        e, d = preset.encoder, preset.decoder
        encoder = e.layers * (_gemma_weights(e) + 2 * memory * e.heads * e.d_head)
        return {**costs, "encoder": 2 * memory * encoder, "memory": 2 * memory * d.layers * _keys_values(d)}
    if isinstance(t, GemmaConfig):
        prefix = memory + 1  # the separator is fed with it, and once more as the first token
        decoder = t.layers * (_gemma_weights(t) + 2 * prefix * inner)
        return {**costs, "encoder": 2 * prefix * decoder, "memory": 0}
    encoder = t.encoder_layers * (4 * t.d_model * inner + 3 * t.d_model * t.d_ff + 2 * memory * inner)
    cross = t.decoder_layers * 2 * t.d_model * inner
    return {**costs, "encoder": 2 * memory * encoder, "memory": 2 * memory * cross}


def flops_per_token(
    preset: Shapes, size: tuple[int, int] | None = None, *, frames: int = 1, prompt: int = 0, position: int = 0
) -> int:
    """Floating-point operations of generating the token at ``position`` (from 0) with a cache.

    Counts and takes what :func:`flops_of_stages` does.
    """
    t, visual = decoder_of(preset), frames * count_tokens(preset, size)
    memory, inner = _memory(preset, visual, frames, prompt), t.heads * t.d_head
    if isinstance(t, GemmaConfig):
        seen = memory + position + 1
        return 2 * (t.layers * (_gemma_weights(t) + 2 * seen * inner) + t.d_model * t.vocab_size)
    layer = 6 * t.d_model * inner + 3 * t.d_model * t.d_ff + 2 * (position + 1 + memory) * inner
    return 2 * (t.decoder_layers * layer + t.d_model * t.vocab_size)


def decoder_of(preset: Shapes) -> T5Config | GemmaConfig:
    """What writes the text, with its vocabulary."""
    match preset:
        case PaliGemmaConfig():
            return preset.text
        case T5Gemma2Config():
            return preset.decoder
        case Preset():
            return preset.language


def _memory(preset: Shapes, visual: int, frames: int, prompt: int) -> int:
    """Tokens that a text is generated from, of which ``visual`` are visual tokens; a Gemma's begin with BOS."""
    match preset:
        case PaliGemmaConfig():
            return visual + 1 + prompt
        case T5Gemma2Config():
            return visual + 1 + prompt + frames * (len(preset.before) + len(preset.after))
        case Preset():
            return visual + prompt


def _gemma_weights(t: GemmaConfig) -> int:
    """Weights of the matrices of one layer."""
    return 2 * t.d_model * t.heads * t.d_head + _keys_values(t) + 3 * t.d_model * t.d_ff


def _keys_values(t: GemmaConfig) -> int:
    """Weights of one layer for keys and values."""
    return 2 * t.d_model * t.kv_heads * t.d_head


_RESOLUTIONS: Mapping[type[Shapes], tuple[int, ...]] = {  # pixels per side
    Preset: (224, 448, 812, 1064),  # the paper's three, and 448
    PaliGemmaConfig: (224, 448, 896),
    T5Gemma2Config: (448, 896),
}


def describe(preset: Shapes) -> dict[str, Any]:
    """What ``openpali sizes`` prints: ``parameters`` of each part and in total, ``bytes`` per dtype, and ``flops``.

    The latter at the preset's own resolution and at those of its kind of model (rounded to whole patches), with 16
    prompt tokens.
    """
    parts = count_parameters(preset)
    total = sum(parts.values())
    patch = preset.vision.patch_size
    resolutions = (round(side / patch) * patch for side in _RESOLUTIONS[type(preset)])
    sides = dict.fromkeys([preset.vision.image_size[0], *resolutions])
    return {
        "parameters": {**parts, "all": total},
        "bytes": {"fp32": 4 * total, "bf16": 2 * total, "int8": int8_bytes(preset)},
        "flops": {
            str(side): {
                "visual_tokens": count_tokens(preset, (side, side)),
                "per_image": flops_per_image(preset, (side, side), prompt=16),
                "per_token": flops_per_token(preset, (side, side), prompt=16),
            }
            for side in sides
        },
    }
