"""`transformers` models, built from configs with random weights, and their weights under our names.

Every map from their names to ours is linear (renaming, stacking, permuting), so that one function carries weights
over as well as gradients.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import (
    MT5Config,
    MT5ForConditionalGeneration,
    SiglipConfig,
    SiglipModel,
    UMT5Config,
    UMT5ForConditionalGeneration,
)
from transformers import T5Config as HFT5Config
from transformers import T5ForConditionalGeneration as HFT5

from openpali.architectures.siglip.network import SigLIPConfig, TextTowerConfig
from openpali.model.t5 import T5Config
from openpali.model.vit import ViTConfig

# ---- weights and gradients ----


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Weights that make every part matter: matrices ~ 1 / sqrt(fan in), norm scales near 1, biases not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if "relative_attention_bias" in name or "embed" in name:
                p.copy_(noise)
            elif "norm" in name and name.endswith("weight"):
                p.copy_(1 + 0.2 * noise)
            elif p.ndim == 1:
                p.copy_(0.2 * noise)
            else:
                p.copy_(noise / p[0].numel() ** 0.5)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.state_dict())


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}


# ---- SigLIP ----


def siglip_pair(image_size: int = 12, patch: int = 4, length: int = 5) -> tuple[SiglipModel, SigLIPConfig]:
    """Towers of different shapes, so that a mix-up of the two cannot pass."""
    hf = SiglipModel(
        SiglipConfig(
            text_config=dict(
                hidden_size=24,
                num_hidden_layers=2,
                intermediate_size=40,
                num_attention_heads=3,
                vocab_size=30,
                max_position_embeddings=length,
                projection_size=32,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            ),
            vision_config=dict(
                hidden_size=32,
                num_hidden_layers=3,
                intermediate_size=48,
                num_attention_heads=4,
                image_size=image_size,
                patch_size=patch,
            ),
        )
    ).eval()
    randomise(hf)
    side = image_size // patch
    ours = SigLIPConfig(
        vision=ViTConfig(patch_size=patch, grid=(side, side), width=32, depth=3, mlp_dim=48, heads=4),
        text=TextTowerConfig(vocab_size=30, length=length, width=24, depth=2, mlp_dim=40, heads=3),
    )
    return hf, ours


def siglip_as_ours(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights or gradients of a `SiglipModel` -> those of :class:`openpali.architectures.siglip.network.SigLIP`."""
    patches = theirs["vision_model.embeddings.patch_embedding.weight"]  # [D, 3, p, p]
    ours = {
        "log_temperature": theirs["logit_scale"],
        "bias": theirs["logit_bias"],
        "vit.patch_embed.weight": patches.permute(0, 2, 3, 1).flatten(1),
        "vit.patch_embed.bias": theirs["vision_model.embeddings.patch_embedding.bias"],
        "vit.positions": theirs["vision_model.embeddings.position_embedding.weight"],
        "pool.probe": theirs["vision_model.head.probe"][0],
        "text.embed.weight": theirs["text_model.embeddings.token_embedding.weight"],
        "text.positions": theirs["text_model.embeddings.position_embedding.weight"],
    }
    for kind in ("weight", "bias"):
        fused = theirs[f"vision_model.head.attention.in_proj_{kind}"]
        ours[f"pool.query.{kind}"], ours[f"pool.key_value.{kind}"] = fused.split(
            [len(fused) // 3, 2 * len(fused) // 3]
        )
        for here, there in {
            "vit.encoder.norm": "vision_model.post_layernorm",
            "pool.out": "vision_model.head.attention.out_proj",
            "pool.norm": "vision_model.head.layernorm",
            "pool.mlp.up": "vision_model.head.mlp.fc1",
            "pool.mlp.down": "vision_model.head.mlp.fc2",
            "text.encoder.norm": "text_model.final_layer_norm",
            "text.head": "text_model.head",
        }.items():
            ours[f"{here}.{kind}"] = theirs[f"{there}.{kind}"]
        for tower, name in (("vit", "vision_model"), ("text", "text_model")):
            for i in range(_count(theirs, f"{name}.encoder.layers.")):
                here, there = f"{tower}.encoder.blocks.{i}", f"{name}.encoder.layers.{i}"
                ours[f"{here}.attention.qkv.{kind}"] = torch.cat(
                    [theirs[f"{there}.self_attn.{p}_proj.{kind}"] for p in "qkv"]
                )
                ours[f"{here}.attention.out.{kind}"] = theirs[f"{there}.self_attn.out_proj.{kind}"]
                ours[f"{here}.norm_attention.{kind}"] = theirs[f"{there}.layer_norm1.{kind}"]
                ours[f"{here}.norm_mlp.{kind}"] = theirs[f"{there}.layer_norm2.{kind}"]
                ours[f"{here}.mlp.up.{kind}"] = theirs[f"{there}.mlp.fc1.{kind}"]
                ours[f"{here}.mlp.down.{kind}"] = theirs[f"{there}.mlp.fc2.{kind}"]
    return ours


# ---- T5 and its kin ----

SHAPE = dict(vocab_size=50, d_model=32, d_kv=6, d_ff=40, num_layers=2, num_decoder_layers=3, num_heads=4)
OURS = T5Config(vocab_size=50, d_model=32, d_head=6, heads=4, d_ff=40, encoder_layers=2, decoder_layers=3)


def t5_pair(kind: str, max_distance: int = 128) -> tuple[nn.Module, T5Config]:
    """One of the family: `t5_v11`, `ul2` (gated SiLU), `t5_tied`, `mt5`, `umt5`."""
    common = dict(SHAPE, relative_attention_max_distance=max_distance, dropout_rate=0.0)
    changes: dict[str, object] = {"max_distance": max_distance, "activation": "gelu"}
    hf: nn.Module
    if kind in ("t5_v11", "ul2"):
        activation = "gated-gelu" if kind == "t5_v11" else "gated-silu"
        hf = _untie(HFT5(HFT5Config(**common, feed_forward_proj=activation, tie_word_embeddings=False)))
        changes["activation"] = "gelu" if kind == "t5_v11" else "silu"
    elif kind == "t5_tied":
        hf = HFT5(HFT5Config(**common, feed_forward_proj="gated-gelu", tie_word_embeddings=True))
        changes["tied_head"] = True
    elif kind == "mt5":
        hf = _untie(MT5ForConditionalGeneration(MT5Config(**common, tie_word_embeddings=False)))
    elif kind == "umt5":
        hf = _untie(UMT5ForConditionalGeneration(UMT5Config(**common, tie_word_embeddings=False)))
        changes["bias_per_layer"] = True
    else:
        raise ValueError(kind)
    randomise(hf.eval())
    return hf, T5Config(**{**vars(OURS), **changes})


def t5_as_ours(theirs: Mapping[str, Tensor], config: T5Config) -> dict[str, Tensor]:
    """Weights or gradients of a T5, mT5 or UMT5 -> those of :class:`openpali.model.t5.EncoderDecoder`."""
    ours = {"embed.weight": theirs["shared.weight"]}
    if not config.tied_head:
        ours["head.weight"] = theirs["lm_head.weight"]
    for stack in ("encoder", "decoder"):
        ours[f"{stack}_norm.scale"] = theirs[f"{stack}.final_layer_norm.weight"]
        layers = _count(theirs, f"{stack}.block.")
        for i in range(layers if config.bias_per_layer else 1):
            ours[f"{stack}_bias.{i}.table.weight"] = theirs[
                f"{stack}.block.{i}.layer.0.SelfAttention.relative_attention_bias.weight"
            ]
        for i in range(layers):
            here, there = f"{stack}.{i}", f"{stack}.block.{i}.layer"
            attention = f"{there}.0.SelfAttention"
            ours[f"{here}.norm_attention.scale"] = theirs[f"{there}.0.layer_norm.weight"]
            ours[f"{here}.attention.qkv.weight"] = torch.cat([theirs[f"{attention}.{p}.weight"] for p in "qkv"])
            ours[f"{here}.attention.out.weight"] = theirs[f"{attention}.o.weight"]
            if stack == "decoder":
                cross = f"{there}.1.EncDecAttention"
                ours[f"{here}.norm_cross.scale"] = theirs[f"{there}.1.layer_norm.weight"]
                ours[f"{here}.cross.query.weight"] = theirs[f"{cross}.q.weight"]
                ours[f"{here}.cross.key_value.weight"] = torch.cat([theirs[f"{cross}.{p}.weight"] for p in "kv"])
                ours[f"{here}.cross.out.weight"] = theirs[f"{cross}.o.weight"]
            last = f"{there}.{2 if stack == 'decoder' else 1}"
            ours[f"{here}.norm_ff.scale"] = theirs[f"{last}.layer_norm.weight"]
            ours[f"{here}.ff.gate.weight"] = theirs[f"{last}.DenseReluDense.wi_0.weight"]
            ours[f"{here}.ff.up.weight"] = theirs[f"{last}.DenseReluDense.wi_1.weight"]
            ours[f"{here}.ff.down.weight"] = theirs[f"{last}.DenseReluDense.wo.weight"]
    return ours


def _untie(hf: nn.Module) -> nn.Module:
    """Give the head a matrix of its own, which recent versions tie whatever the config says."""
    hf.lm_head = nn.Linear(SHAPE["d_model"], SHAPE["vocab_size"], bias=False)
    return hf


def _count(theirs: Mapping[str, Tensor], prefix: str) -> int:
    return len({name[len(prefix) :].split(".")[0] for name in theirs if name.startswith(prefix)})
