"""SigLIP and SigLIP 2: both towers, in transformers' and big_vision's formats.

Names as in transformers' `models/siglip/modeling_siglip.py`. For the image encoder alone, whether they start with
``vision_model.`` depends on the version that wrote the checkpoint. SigLIP 2 NaFlex, whose images keep their
proportions (``vision.tokens``), embeds patches by a linear layer instead of a convolution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isqrt
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from openpali.architectures.base import Architecture, Exported, Stored
from openpali.architectures.facts import Facts
from openpali.architectures.halves.big_vision import read_npz
from openpali.architectures.halves.image_encoder import ImageEncoder, parts
from openpali.architectures.preprocessor import (
    describe_preprocess,
    read_native,
    read_preprocess,
    warn_inexpressible,
)
from openpali.architectures.rules import Layout, Rule, dense, read, read_config, read_json, require_settings, write
from openpali.architectures.siglip.network import SigLIP, SigLIPConfig, TextTowerConfig
from openpali.architectures.tokenizer import content_of, describe_tokenizer, read_tokenizer
from openpali.data.pipeline.encode import TextNormalisation
from openpali.model.vit import Block, ViTConfig
from openpali.tensors import MappedTensors
from openpali.text.tokenizer import Tokenizer

_B16 = ViTConfig(patch_size=16, grid=(14, 14), width=768, depth=12, mlp_dim=3072, heads=12)
SO400M = ViTConfig(patch_size=14, grid=(16, 16), width=1152, depth=27, mlp_dim=4304, heads=16)
_NANO = SigLIPConfig(
    ViTConfig(patch_size=12, grid=(6, 6), width=192, depth=6, mlp_dim=768, heads=3),
    TextTowerConfig(vocab_size=6144, length=24, width=160, depth=4, mlp_dim=640, heads=4),
)
_TEXT_B = TextTowerConfig(vocab_size=32_000, length=64, width=768, depth=12, mlp_dim=3072, heads=12)
_TEXT_SO400M = TextTowerConfig(vocab_size=250_000, length=64, width=1152, depth=27, mlp_dim=4304, heads=16)

PRESETS: Mapping[str, SigLIPConfig] = {  # a recipe sets the vocabulary to that of its tokenizer
    # for tests and dry runs: big_vision's "mu" (width 32, depth 1), with the patches of nano
    "pico": SigLIPConfig(
        ViTConfig(patch_size=12, grid=(6, 6), width=32, depth=1, mlp_dim=64, heads=2),
        TextTowerConfig(vocab_size=1024, length=16, width=32, depth=1, mlp_dim=64, heads=2),
    ),
    "nano": _NANO,
    "nano-deep": replace(_NANO, vision=replace(_NANO.vision, depth=12)),
    "mini": SigLIPConfig(
        ViTConfig(patch_size=16, grid=(6, 6), width=384, depth=8, mlp_dim=1536, heads=6),
        TextTowerConfig(vocab_size=16_384, length=32, width=256, depth=6, mlp_dim=1024, heads=4),
    ),
    "base": SigLIPConfig(_B16, _TEXT_B),  # SigLIP B/16
    "large": SigLIPConfig(SO400M, replace(_TEXT_SO400M, vocab_size=32_000, length=16)),  # SigLIP So400m/14
    "pali3-5b": SigLIPConfig(  # ViT-G/14
        ViTConfig(patch_size=14, grid=(16, 16), width=1664, depth=48, mlp_dim=8192, heads=16), _TEXT_SO400M
    ),
    # the smaller image encoders of the paper's Table 1
    "pali3-b16": SigLIPConfig(_B16, replace(_TEXT_B, vocab_size=250_000)),
    "pali3-l16": SigLIPConfig(
        ViTConfig(patch_size=16, grid=(14, 14), width=1024, depth=24, mlp_dim=4096, heads=16),
        replace(_TEXT_B, vocab_size=250_000, width=1024, depth=24, mlp_dim=4096, heads=16),
    ),
}

NAFLEX, NAFLEX_VISION = "siglip2", "siglip2_vision_model"
"""Model types of SigLIP 2 NaFlex: both towers, and the image encoder alone."""
_NAFLEX_PATCHES = 256  # transformers' default
_REQUIRED = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "num_channels": 3}
_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072, "num_attention_heads": 12}
_PATCH = 16
"""transformers' defaults (size B), for keys that a configuration leaves out."""


def read_siglip(folder: Path) -> ImageEncoder:
    """Read a transformers checkpoint: of a SigLIP, or of its image encoder."""
    config = read_config(folder)
    kind = config["model_type"]
    if kind not in ("siglip", "siglip_vision_model", NAFLEX, NAFLEX_VISION):
        raise ValueError(f"{folder} holds a {kind!r}, not a SigLIP")
    both = kind in ("siglip", NAFLEX)
    seen = dict(config.get("vision_config") or {}) if both else config
    if kind in (NAFLEX, NAFLEX_VISION):
        patch, _ = _pair(seen.get("patch_size", _PATCH))
        patches = seen.get("num_patches", _NAFLEX_PATCHES)
        if (side := isqrt(patches)) ** 2 != patches:
            raise ValueError(f"{folder} has num_patches = {patches}: only those of a square can be read")
        seen = {**seen, "image_size": side * patch}
        vision, image_size = vision_config(seen, str(folder))
        vision = replace(vision, tokens=read_native(folder, patch).tokens)
    else:
        vision, image_size = vision_config(seen, str(folder))
    text = _text_config(dict(config.get("text_config") or {}), vision, str(folder)) if both else None
    found: Mapping[str, Tensor] = MappedTensors(folder)
    if not both and not any(key.startswith("vision_model.") for key in found):
        found = {f"vision_model.{key}": value for key, value in found.items()}
    found = {key: value for key, value in found.items() if not key.endswith(".position_ids")}  # 0, 1, 2, ...
    pool = bool(seen.get("vision_use_head", True)) or any(key.startswith("vision_model.head.") for key in found)
    weights = read(rules(vision, text, pool), parts(vision, text, pool), found, str(folder))
    return ImageEncoder(vision, text, weights, image_size)


def write_siglip(weights: Mapping[str, Tensor], config: SigLIPConfig) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """:class:`~openpali.architectures.siglip.network.SigLIP` as transformers' `SiglipModel`, or `Siglip2Model` if
    images keep their proportions: tensors and configuration.
    """
    t = config.text
    kind, model = (NAFLEX, "Siglip2Model") if config.vision.tokens else ("siglip", "SiglipModel")
    described = {
        "architectures": [model],
        "model_type": kind,
        "vision_config": describe_vision(config.vision, pool=True),
        "text_config": {
            "model_type": f"{kind}_text_model",
            "vocab_size": t.vocab_size,
            "hidden_size": t.width,
            "num_hidden_layers": t.depth,
            "intermediate_size": t.mlp_dim,
            "num_attention_heads": t.heads,
            "max_position_embeddings": t.length,
            "projection_size": config.vision.width,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6,
            "bos_token_id": None,
            "eos_token_id": 1,
            "pad_token_id": 1,
        },
    }
    return write(rules(config.vision, t, pool=True), weights), described


def write_vit(weights: Mapping[str, Tensor], config: ViTConfig) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A ViT as transformers' `SiglipVisionModel` without a head: tensors and configuration."""
    kind = "Siglip2VisionModel" if config.tokens else "SiglipVisionModel"
    described = {"architectures": [kind], **describe_vision(config, pool=False)}
    return write(rules(config, None, pool=False), {f"vit.{k}": v for k, v in weights.items()}), described


def describe_vision(config: ViTConfig, *, pool: bool) -> dict[str, Any]:
    """A ViT's shape as a configuration of transformers."""
    height, width = config.image_size
    if height != width:
        raise ValueError(f"transformers' SigLIP takes square images, but this ViT takes {height} x {width}")
    size: dict[str, Any]
    if config.tokens:
        size = {"model_type": NAFLEX_VISION, "num_patches": config.grid[0] * config.grid[1]}
    else:
        size = {"model_type": "siglip_vision_model", "image_size": height}
    return {
        **size,
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "intermediate_size": config.mlp_dim,
        "num_attention_heads": config.heads,
        "patch_size": config.patch_size,
        "num_channels": 3,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
        "vision_use_head": pool,
    }


def rules(vision: ViTConfig, text: TextTowerConfig | None, pool: bool) -> list[Rule]:
    """transformers' names for SigLIP, or for its image encoder."""
    p = vision.patch_size
    there = "vision_model"
    patches = ("vit.patch_embed.weight",), (f"{there}.embeddings.patch_embedding.weight",)
    convolution: tuple[Layout, Layout] = (
        lambda w: w.permute(0, 2, 3, 1).flatten(1),  # [D, 3, p, p] -> [D, p * p * 3]
        lambda w: w.reshape(-1, p, p, 3).permute(0, 3, 1, 2),
    )
    found = [
        Rule(*patches) if vision.tokens else Rule(*patches, *convolution),
        Rule(("vit.patch_embed.bias",), (f"{there}.embeddings.patch_embedding.bias",)),
        Rule(("vit.positions",), (f"{there}.embeddings.position_embedding.weight",)),
        *_encoder("vit.encoder", f"{there}.encoder", f"{there}.post_layernorm", vision.depth),
    ]
    if pool:
        head = f"{there}.head"
        found += [
            Rule(("pool.probe",), (f"{head}.probe",), lambda x: x[0], lambda x: x[None]),
            *(
                Rule((f"pool.query.{kind}", f"pool.key_value.{kind}"), (f"{head}.attention.in_proj_{kind}",))
                for kind in ("weight", "bias")
            ),
            *dense("pool.out", f"{head}.attention.out_proj"),
            *dense("pool.norm", f"{head}.layernorm"),
            *dense("pool.mlp.up", f"{head}.mlp.fc1"),
            *dense("pool.mlp.down", f"{head}.mlp.fc2"),
        ]
    if text is not None:
        found += [
            Rule(("text.embed.weight",), ("text_model.embeddings.token_embedding.weight",)),
            Rule(("text.positions",), ("text_model.embeddings.position_embedding.weight",)),
            *_encoder("text.encoder", "text_model.encoder", "text_model.final_layer_norm", text.depth),
            *dense("text.head", "text_model.head"),
            Rule(("log_temperature",), ("logit_scale",)),
            Rule(("bias",), ("logit_bias",)),
        ]
    return found


def _encoder(ours: str, theirs: str, norm: str, depth: int) -> list[Rule]:
    found = dense(f"{ours}.norm", norm)
    for i in range(depth):
        here, there = f"{ours}.blocks.{i}", f"{theirs}.layers.{i}"
        found += [
            *dense(f"{here}.attention.qkv", *(f"{there}.self_attn.{part}_proj" for part in "qkv")),
            *dense(f"{here}.attention.out", f"{there}.self_attn.out_proj"),
            *dense(f"{here}.norm_attention", f"{there}.layer_norm1"),
            *dense(f"{here}.norm_mlp", f"{there}.layer_norm2"),
            *dense(f"{here}.mlp.up", f"{there}.mlp.fc1"),
            *dense(f"{here}.mlp.down", f"{there}.mlp.fc2"),
        ]
    return found


def vision_config(config: dict[str, Any], where: str) -> tuple[ViTConfig, tuple[int, int]]:
    """The shape of a ViT that transformers describes, and the height and width in pixels of its images."""
    require_settings(config, _REQUIRED, where)
    config = {**_BASE, "image_size": 224, "patch_size": _PATCH, **config}
    height, width = _pair(config["image_size"])
    patch, other = _pair(config["patch_size"])
    if patch != other:
        raise ValueError(f"{where} has patches of {patch} x {other} pixels: only square patches can be read")
    vision = ViTConfig(
        patch_size=patch,
        grid=(height // patch, width // patch),
        width=config["hidden_size"],
        depth=config["num_hidden_layers"],
        mlp_dim=config["intermediate_size"],
        heads=config["num_attention_heads"],
    )
    return vision, (height, width)


def _text_config(config: dict[str, Any], vision: ViTConfig, where: str) -> TextTowerConfig:
    require_settings(config, {k: v for k, v in _REQUIRED.items() if k != "num_channels"}, where)
    config = {**_BASE, "vocab_size": 32_000, "max_position_embeddings": 64, **config}
    out = config.get("projection_size") or config["hidden_size"]
    if out != vision.width:
        raise ValueError(f"{where}: texts are embedded in {out} dimensions and images in {vision.width}")
    return TextTowerConfig(
        vocab_size=config["vocab_size"],
        length=config["max_position_embeddings"],
        width=config["hidden_size"],
        depth=config["num_hidden_layers"],
        mlp_dim=config["intermediate_size"],
        heads=config["num_attention_heads"],
    )


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    height, width = size
    return height, width


class SigLIPArchitecture(Architecture[SigLIPConfig]):
    """Two towers."""

    kind = "siglip"
    config = SigLIPConfig
    network = SigLIP
    native = True
    presets = PRESETS
    blocks = {Block: ()}
    model_types = ("siglip", "siglip_vision_model", NAFLEX, NAFLEX_VISION)

    def reads(self, source: Path, described: Mapping[str, Any]) -> bool:
        return source.suffix == ".npz" or super().reads(source, described)

    def read(self, source: Path) -> Stored[SigLIPConfig]:
        """Both towers, with the tokenizer beside them; special tokens are added to it."""
        image = read_image_encoder(source)
        if image.text is None:
            raise ValueError(f"{source} has only an image encoder: give a language model, too, to make a PaLI")
        beside = source if source.is_dir() else source.parent
        tokenizer, known = read_tokenizer(beside)
        known = min(known, image.text.vocab_size)
        config = SigLIPConfig(image.vision, replace(image.text, vocab_size=tokenizer.vocab_size))
        drawn = torch.Generator().manual_seed(0)
        rows = extend_rows(image.weights["text.embed.weight"], known, tokenizer.vocab_size, drawn)
        facts = Facts(
            parts={"vision": str(source)},
            **_texts(beside, tokenizer),
            vocabulary={"kept": known, "new": tokenizer.vocab_size - known, "seed": 0},
        )
        weights = {**image.weights, "text.embed.weight": rows}
        v = config.vision
        preprocess = read_native(source, v.patch_size) if v.tokens else read_preprocess(source, *v.image_size)
        about = [*image.describe(), f"vocabulary: {known} tokens converted, {tokenizer.vocab_size - known} new"]
        return Stored(config, weights, preprocess, tokenizer, facts, about)

    def write(self, model: Stored[SigLIPConfig]) -> dict[str, Exported]:
        assert model.tokenizer is not None
        weights, described = write_siglip(model.weights, model.config)
        gemma = model.tokenizer.bos_id >= 0
        if model.config.sides:
            warn_inexpressible("transformers has no place for sides: the exported model cannot detect with --fast")
        if model.facts.softmax:
            warn_inexpressible(
                "transformers has no record that softmax compared the pairs: its probabilities would be those of a "
                "sigmoid with a bias that was never trained"
            )
        if model.config.vision.tokens and (not gemma or model.facts.normalisation == "as is"):
            warn_inexpressible(
                "transformers takes the tokenizer of any siglip2 for Gemma's, lower case: embed texts with OpenPaLI"
            )
        texts = _describe_texts(model.tokenizer, model.facts, model.config.text.length)
        files = {**describe_preprocess(model.preprocess), "tokenizer_config.json": texts, "config.json": described}
        return {"": Exported(weights, files, "tokenizer.model" if gemma else "spiece.model")}


def read_image_encoder(source: Path) -> ImageEncoder:
    """SigLIP from a transformers folder, or from a big_vision `.npz` file."""
    return read_npz(source) if source.is_file() or source.suffix == ".npz" else read_siglip(source)


def extend_rows(matrix_VD: Tensor, known: int, size: int, generator: torch.Generator) -> Tensor:
    """Keep the first ``known`` rows of an embedding or head and draw the others, ``[size, D]``.

    New rows are normal with the mean and standard deviation of each column of the known rows, so that a new token
    has neither a larger norm nor a higher probability than an average one.
    """
    rows = matrix_VD[:known].float()
    noise = torch.randn(size - known, rows.shape[1], generator=generator)
    new = rows.mean(0) + noise * rows.std(0)
    return torch.cat([matrix_VD[:known], new.to(matrix_VD.dtype)])


def _texts(folder: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    """How a checkpoint's tokenizer normalises and pads texts, as facts of a model folder.

    What `openpali export` wrote says so, and the padding token that is named there. Otherwise, SigLIP 2, which has
    Gemma's tokenizer, reads lower case and pads with its own token; the first SigLIP pads with EOS, and its texts
    are "canonical" in transformers, as its tokenizer class does, "lower" in big_vision.
    """
    described = read_json(folder / "tokenizer_config.json")
    kind = described.get("tokenizer_class")
    second = not kind.startswith("SiglipTokenizer") if kind else tokenizer.bos_id >= 0
    normalisation: Any = "canonical" if not second and (folder / "config.json").is_file() else "lower"
    if (stored := described.get("text_normalisation")) in get_args(TextNormalisation):
        normalisation = stored
    pad, eos = (content_of(described, f"{name}_token", "") for name in ("pad", "eos"))
    padded = pad != eos if pad and eos else second
    return {"text_normalisation": normalisation, "padding": "pad" if padded else "eos"}


def _describe_texts(tokenizer: Tokenizer, facts: Facts, length: int) -> dict[str, Any]:
    """What makes transformers' tokenizer normalise and pad texts as ours, as far as it can, and tells convert."""
    more: dict[str, Any] = {"text_normalisation": facts.normalisation, "model_max_length": length}
    if facts.padding == "eos":
        [more["pad_token"]] = tokenizer.pieces([tokenizer.eos_id])
    if tokenizer.bos_id >= 0:  # Gemma's
        kind = "GemmaTokenizer" if facts.normalisation == "as is" else "Siglip2Tokenizer"
        more |= {"add_bos_token": False, "add_eos_token": True, "padding_side": "right"}
        return describe_tokenizer(tokenizer, kind, **more)
    if facts.normalisation != "canonical":
        warn_inexpressible(
            "transformers' SiglipTokenizer removes punctuation, which this model's texts keep: leave it out there, "
            "or embed texts with OpenPaLI"
        )
    return describe_tokenizer(tokenizer, "SiglipTokenizer", do_lower_case=facts.normalisation != "as is", **more)
