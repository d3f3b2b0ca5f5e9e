"""SigLIP and SigLIP 2 (fixed resolution) in transformers' format: image encoder alone, within a larger model, or
both towers.

Names as in transformers' `models/siglip/modeling_siglip.py`. For the image encoder alone, whether they start with
``vision_model.`` depends on the version that wrote the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from openpali.interop.names import Rule, read, read_config, require_settings, skeleton, write
from openpali.model.siglip import SigLIP, SigLIPConfig, TextTowerConfig
from openpali.model.vit import MAPHead, ViT, ViTConfig
from openpali.weights.tensors import MappedTensors

_REQUIRED = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "num_channels": 3}
HOSTS = ("paligemma", "gemma3", "t5gemma2")  # kinds of models with a SigLIP in them
_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072, "num_attention_heads": 12}
"""transformers' defaults (size B), for keys that a configuration leaves out."""


@dataclass(frozen=True)
class ImageEncoder:
    """A SigLIP checkpoint, or its image encoder, under the names of :class:`openpali.model.siglip.SigLIP`.

    Attributes:
        vision: shape of the ViT.
        text: shape of the text tower; None if there is none.
        weights: ``vit.*``; ``pool.*`` with a MAP head; and, with both towers, ``text.*``, ``log_temperature``,
            ``bias``.
        image_size: height and width in pixels that it was trained at; the ViT uses the complete patches within.
        dropped: tensors that are not used, such as a classifier's head.
    """

    vision: ViTConfig
    text: TextTowerConfig | None
    weights: Mapping[str, Tensor]
    image_size: tuple[int, int]
    dropped: Sequence[str] = ()

    @property
    def has_pool(self) -> bool:
        """Whether there is a MAP head."""
        return "pool.probe" in self.weights

    @property
    def vit(self) -> dict[str, Tensor]:
        """The weights of the ViT alone, under its own names."""
        return {k.removeprefix("vit."): v for k, v in self.weights.items() if k.startswith("vit.")}


def read_siglip(folder: Path) -> ImageEncoder:
    """Read a transformers checkpoint: of a SigLIP, of its image encoder, or of one of :data:`HOSTS`.

    Raises:
        FileNotFoundError: the folder holds no checkpoint.
        ValueError: it is another kind of model, or tensors are missing, unknown or have another shape.
    """
    config = read_config(folder)
    kind = config["model_type"]
    if kind in HOSTS:
        return _read_within(folder, config)
    if kind not in ("siglip", "siglip_vision_model"):
        hint = ": for SigLIP 2, use a checkpoint of fixed resolution, not NaFlex" if "siglip2" in kind else ""
        raise ValueError(f"{folder} holds a {kind!r}, not a SigLIP{hint}")
    both = kind == "siglip"
    seen = dict(config.get("vision_config") or {}) if both else config
    vision, image_size = vision_config(seen, str(folder))
    text = _text_config(dict(config.get("text_config") or {}), vision, str(folder)) if both else None
    found: Mapping[str, Tensor] = MappedTensors(folder)
    if not both and not any(key.startswith("vision_model.") for key in found):
        found = {f"vision_model.{key}": value for key, value in found.items()}
    found = {key: value for key, value in found.items() if not key.endswith(".position_ids")}  # 0, 1, 2, ...
    pool = bool(seen.get("vision_use_head", True)) or any(key.startswith("vision_model.head.") for key in found)
    weights = read(rules(vision, text, pool), parts(vision, text, pool), found, str(folder))
    return ImageEncoder(vision, text, weights, image_size)


def _read_within(folder: Path, config: Mapping[str, Any]) -> ImageEncoder:
    """The image encoder of a larger model."""
    described = dict(config.get("encoder") or {}) if config["model_type"] == "t5gemma2" else config
    vision, image_size = vision_config(dict(described.get("vision_config") or {}), str(folder))
    tensors = MappedTensors(folder)
    found = {}
    for key in tensors:
        _, tower, name = key.rpartition("vision_tower.")
        if tower:
            found[f"vision_model.{name.removeprefix('vision_model.')}"] = tensors[key]
    weights = read(rules(vision, None, pool=False), parts(vision, None, pool=False), found, str(folder))
    return ImageEncoder(vision, None, weights, image_size, dropped=("projection and language model",))


def write_siglip(weights: Mapping[str, Tensor], config: SigLIPConfig) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Both towers as transformers' `SiglipModel`: tensors and configuration.

    Args:
        weights: of :class:`openpali.model.siglip.SigLIP`.
        config: its shape.
    """
    t = config.text
    described = {
        "architectures": ["SiglipModel"],
        "model_type": "siglip",
        "vision_config": describe_vision(config.vision, pool=True),
        "text_config": {
            "model_type": "siglip_text_model",
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
    """A ViT as transformers' `SiglipVisionModel` without a head: tensors and configuration.

    Args:
        weights: of :class:`openpali.model.vit.ViT`.
        config: its shape.
    """
    described = {"architectures": ["SiglipVisionModel"], **describe_vision(config, pool=False)}
    return write(rules(config, None, pool=False), {f"vit.{k}": v for k, v in weights.items()}), described


def describe_vision(config: ViTConfig, *, pool: bool) -> dict[str, Any]:
    """A ViT's shape as a configuration of transformers.

    Raises:
        ValueError: its grid is not square, as transformers requires.
    """
    height, width = config.image_size
    if height != width:
        raise ValueError(f"transformers' SigLIP takes square images, but this ViT takes {height} x {width}")
    return {
        "model_type": "siglip_vision_model",
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "intermediate_size": config.mlp_dim,
        "num_attention_heads": config.heads,
        "image_size": height,
        "patch_size": config.patch_size,
        "num_channels": 3,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
        "vision_use_head": pool,
    }


def parts(vision: ViTConfig, text: TextTowerConfig | None, pool: bool) -> dict[str, Tensor]:
    """The parameters of SigLIP, or of its image encoder, on the meta device."""
    if text is not None:
        return skeleton(lambda: SigLIP(SigLIPConfig(vision, text)))
    found = {f"vit.{k}": v for k, v in skeleton(lambda: ViT(vision)).items()}
    if pool:
        head = skeleton(lambda: MAPHead(vision.width, vision.mlp_dim, vision.heads))
        found |= {f"pool.{k}": v for k, v in head.items()}
    return found


def rules(vision: ViTConfig, text: TextTowerConfig | None, pool: bool) -> list[Rule]:
    """transformers' names for SigLIP, or for its image encoder."""
    p = vision.patch_size
    there = "vision_model"
    found = [
        Rule(
            ("vit.patch_embed.weight",),
            (f"{there}.embeddings.patch_embedding.weight",),
            lambda w: w.permute(0, 2, 3, 1).flatten(1),  # [D, 3, p, p] -> [D, p * p * 3]
            lambda w: w.reshape(-1, p, p, 3).permute(0, 3, 1, 2),
        ),
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
            *_dense("pool.out", f"{head}.attention.out_proj"),
            *_dense("pool.norm", f"{head}.layernorm"),
            *_dense("pool.mlp.up", f"{head}.mlp.fc1"),
            *_dense("pool.mlp.down", f"{head}.mlp.fc2"),
        ]
    if text is not None:
        found += [
            Rule(("text.embed.weight",), ("text_model.embeddings.token_embedding.weight",)),
            Rule(("text.positions",), ("text_model.embeddings.position_embedding.weight",)),
            *_encoder("text.encoder", "text_model.encoder", "text_model.final_layer_norm", text.depth),
            *_dense("text.head", "text_model.head"),
            Rule(("log_temperature",), ("logit_scale",)),
            Rule(("bias",), ("logit_bias",)),
        ]
    return found


def _encoder(ours: str, theirs: str, norm: str, depth: int) -> list[Rule]:
    found = _dense(f"{ours}.norm", norm)
    for i in range(depth):
        here, there = f"{ours}.blocks.{i}", f"{theirs}.layers.{i}"
        found += [
            *(
                Rule(
                    (f"{here}.attention.qkv.{kind}",),
                    tuple(f"{there}.self_attn.{part}_proj.{kind}" for part in "qkv"),
                )
                for kind in ("weight", "bias")
            ),
            *_dense(f"{here}.attention.out", f"{there}.self_attn.out_proj"),
            *_dense(f"{here}.norm_attention", f"{there}.layer_norm1"),
            *_dense(f"{here}.norm_mlp", f"{there}.layer_norm2"),
            *_dense(f"{here}.mlp.up", f"{there}.mlp.fc1"),
            *_dense(f"{here}.mlp.down", f"{there}.mlp.fc2"),
        ]
    return found


def _dense(ours: str, theirs: str) -> list[Rule]:
    return [Rule((f"{ours}.{kind}",), (f"{theirs}.{kind}",)) for kind in ("weight", "bias")]


def vision_config(config: dict[str, Any], where: str) -> tuple[ViTConfig, tuple[int, int]]:
    """The shape of a ViT that transformers describes, and the height and width in pixels of its images.

    Raises:
        ValueError: it is of a kind that cannot be read.
    """
    require_settings(config, _REQUIRED, where)
    config = {**_BASE, "image_size": 224, "patch_size": 16, **config}
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
