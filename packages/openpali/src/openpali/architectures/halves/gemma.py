"""What the models with layers of Gemma, Gemma 2 or Gemma 3 share: names in transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openpali.architectures.rules import Rule
from openpali.model.gemma import GemmaConfig

_SHAPES = {  # ours -> theirs
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "d_ff": "intermediate_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "d_head": "head_dim",
}
_PARTS = {
    "attention.query": ("self_attn.q_proj",),
    "attention.key_value": ("self_attn.k_proj", "self_attn.v_proj"),
    "attention.out": ("self_attn.o_proj",),
    **{f"ff.{part}": (f"mlp.{part}_proj",) for part in ("gate", "up", "down")},
}


def read_shapes(described: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of :class:`openpali.model.gemma.GemmaConfig` that are shapes.

    Args:
        described: a text configuration without gaps.
    """
    return {ours: described[theirs] for ours, theirs in _SHAPES.items()}


def describe_shapes(config: GemmaConfig) -> dict[str, Any]:
    """What all text configurations have in common."""
    shapes = {theirs: getattr(config, ours) for ours, theirs in _SHAPES.items()}
    return {**shapes, "rms_norm_eps": config.norm_eps}


def layer_rules(ours: str, theirs: str, layers: int, norms: Mapping[str, str]) -> list[Rule]:
    """The layers of a :class:`openpali.model.gemma.Stack`; ``norms``: names in a layer, ours -> theirs."""
    names = {**{here: (there,) for here, there in norms.items()}, **_PARTS}
    return [
        Rule((f"{ours}.layers.{i}.{here}.weight",), tuple(f"{theirs}.layers.{i}.{name}.weight" for name in there))
        for i in range(layers)
        for here, there in names.items()
    ]
