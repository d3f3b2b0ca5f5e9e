"""`transformers` models, built from configs with random weights, and their weights under our names.

Every map from their names to ours is linear (renaming, stacking, permuting), so that one function carries weights
over as well as gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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

from openpali.architectures.rules import Rule, read
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


def as_ours(rules: Sequence[Rule], theirs: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Weights of transformers, or gradients, as those of our model."""
    named = {key: theirs[key] for rule in rules for key in rule.theirs}
    return read(rules, dict(model.state_dict()), named, "transformers")


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


def _untie(hf: nn.Module) -> nn.Module:
    """Give the head a matrix of its own, which recent versions tie whatever the config says."""
    hf.lm_head = nn.Linear(SHAPE["d_model"], SHAPE["vocab_size"], bias=False)
    return hf
