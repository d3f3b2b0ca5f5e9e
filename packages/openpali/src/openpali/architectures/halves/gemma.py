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
    """The layers of a :class:`openpali.model.gemma.Stack`.

    Args:
        ours, theirs: names of the stack.
        layers: how many there are.
        norms: names in a layer, ours -> theirs.
    """
    found = []
    for i in range(layers):
        here, there = f"{ours}.layers.{i}", f"{theirs}.layers.{i}"
        attention = f"{there}.self_attn"
        found += [
            *(Rule((f"{here}.{name}.weight",), (f"{there}.{other}.weight",)) for name, other in norms.items()),
            Rule((f"{here}.attention.query.weight",), (f"{attention}.q_proj.weight",)),
            Rule(
                (f"{here}.attention.key_value.weight",),
                (f"{attention}.k_proj.weight", f"{attention}.v_proj.weight"),
            ),
            Rule((f"{here}.attention.out.weight",), (f"{attention}.o_proj.weight",)),
            *(
                Rule((f"{here}.ff.{part}.weight",), (f"{there}.mlp.{part}_proj.weight",))
                for part in ("gate", "up", "down")
            ),
        ]
    return found
