"""T5 v1.1, Flan-T5, mT5, umT5, UL2 and Flan-UL2 in transformers' format.

Names as in transformers' `models/t5/modeling_t5.py`. T5 1.0 has no gate in its feed-forward and is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from openpali.architectures.rules import Rule, drop_copies, read, read_config, skeleton, write
from openpali.model.t5 import EncoderDecoder, T5Config
from openpali.tensors import MappedTensors

_EMBEDDING, _HEAD = "shared.weight", "lm_head.weight"
_COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
_MT5 = {"d_ff": 1024, "num_layers": 8, "num_heads": 6, "vocab_size": 250_112, "feed_forward_proj": "gated-gelu"}
_DEFAULTS = {  # of transformers, for keys that a configuration leaves out
    "t5": {"d_ff": 2048, "num_layers": 6, "num_heads": 8, "vocab_size": 32_128, "feed_forward_proj": "relu"},
    "mt5": _MT5,
    "umt5": _MT5,
}
_COMMON = {
    "d_model": 512,
    "d_kv": 64,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
}
_ACTIVATIONS: Mapping[str, Literal["gelu", "silu"]] = {"gated-gelu": "gelu", "gated-silu": "silu"}


@dataclass(frozen=True)
class LanguageModel:
    """A checkpoint under the names of :class:`openpali.model.t5.EncoderDecoder`."""

    config: T5Config
    weights: Mapping[str, Tensor]


def is_t5(source: Path) -> bool:
    """Whether a checkpoint is of T5's family; a file, which has no configuration, is not."""
    return not source.is_file() and read_config(source)["model_type"] in _DEFAULTS


def read_t5(folder: Path) -> LanguageModel:
    """Read a transformers checkpoint, in one file or in shards, with ``config.json``."""
    described = read_config(folder)
    config = _config(described, str(folder))
    found: dict[str, Tensor] = dict(MappedTensors(folder))
    # a bias that early T5 code saved but never used
    found.pop("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight", None)
    drop_copies(found, dict.fromkeys(_COPIES, _EMBEDDING), str(folder))
    tied, head, embedding = _is_tied(described), found.pop(_HEAD, None), found.get(_EMBEDDING)
    if head is None and described.get("scale_decoder_outputs") is False:
        head = embedding  # transformers 5 leaves out a head that is a copy
    own = head is not None and not (tied and embedding is not None and torch.equal(head, embedding))
    if own == tied:
        raise ValueError(
            f"{folder}: config.json and {_HEAD} disagree on whether the output head is the embedding: set "
            "scale_decoder_outputs there to true, as in T5 1.0, or to false"
        )
    if head is not None and own:
        found[_HEAD] = head
    config = replace(config, tied_head=tied)
    weights = read(rules(config), skeleton(lambda: EncoderDecoder(config)), found, str(folder))
    return LanguageModel(config, weights)


def write_t5(weights: Mapping[str, Tensor], config: T5Config) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An encoder-decoder as transformers' T5, or umT5 if each layer has a bias: tensors and configuration."""
    umt5 = config.bias_per_layer
    described = {
        "architectures": ["UMT5ForConditionalGeneration" if umt5 else "T5ForConditionalGeneration"],
        "model_type": "umt5" if umt5 else "t5",
        "vocab_size": config.vocab_size,
        "d_model": config.d_model,
        "d_kv": config.d_head,
        "d_ff": config.d_ff,
        "num_heads": config.heads,
        "num_layers": config.encoder_layers,
        "num_decoder_layers": config.decoder_layers,
        "feed_forward_proj": f"gated-{config.activation}",
        "relative_attention_num_buckets": config.buckets,
        "relative_attention_max_distance": config.max_distance,
        "layer_norm_epsilon": config.norm_eps,
        "dropout_rate": config.dropout,
        "tie_word_embeddings": config.tied_head,
        "is_encoder_decoder": True,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }
    return write(rules(config), weights), described


def rules(config: T5Config) -> list[Rule]:
    """transformers' names for the encoder-decoder."""
    found = [Rule(("embed.weight",), (_EMBEDDING,))]
    if not config.tied_head:
        found.append(Rule(("head.weight",), (_HEAD,)))
    for stack, layers in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers)):
        found.append(Rule((f"{stack}_norm.scale",), (f"{stack}.final_layer_norm.weight",)))
        for i in range(layers if config.bias_per_layer else 1):
            table = f"{stack}.block.{i}.layer.0.SelfAttention.relative_attention_bias.weight"
            found.append(Rule((f"{stack}_bias.{i}.table.weight",), (table,)))
        for i in range(layers):
            here, there = f"{stack}.{i}", f"{stack}.block.{i}.layer"
            attention, cross = f"{there}.0.SelfAttention", f"{there}.1.EncDecAttention"
            last = f"{there}.{2 if stack == 'decoder' else 1}"
            found += [
                Rule((f"{here}.norm_attention.scale",), (f"{there}.0.layer_norm.weight",)),
                Rule((f"{here}.attention.qkv.weight",), tuple(f"{attention}.{part}.weight" for part in "qkv")),
                Rule((f"{here}.attention.out.weight",), (f"{attention}.o.weight",)),
                Rule((f"{here}.norm_ff.scale",), (f"{last}.layer_norm.weight",)),
                Rule((f"{here}.ff.gate.weight",), (f"{last}.DenseReluDense.wi_0.weight",)),
                Rule((f"{here}.ff.up.weight",), (f"{last}.DenseReluDense.wi_1.weight",)),
                Rule((f"{here}.ff.down.weight",), (f"{last}.DenseReluDense.wo.weight",)),
            ]
            if stack == "decoder":
                found += [
                    Rule((f"{here}.norm_cross.scale",), (f"{there}.1.layer_norm.weight",)),
                    Rule((f"{here}.cross.query.weight",), (f"{cross}.q.weight",)),
                    Rule((f"{here}.cross.key_value.weight",), tuple(f"{cross}.{part}.weight" for part in "kv")),
                    Rule((f"{here}.cross.out.weight",), (f"{cross}.o.weight",)),
                ]
    return found


def _config(described: Mapping[str, Any], where: str) -> T5Config:
    kind = described["model_type"]
    if kind not in _DEFAULTS:
        raise ValueError(f"{where} holds a {kind!r}, which is none of {', '.join(_DEFAULTS)}")
    c = {**_COMMON, **_DEFAULTS[kind], **described}
    if c["feed_forward_proj"] not in _ACTIVATIONS:
        raise ValueError(
            f"{where} has feed_forward_proj = {c['feed_forward_proj']!r}, and only {', '.join(_ACTIVATIONS)} can "
            "be read: for T5, use v1.1 or Flan-T5"
        )
    return T5Config(
        vocab_size=c["vocab_size"],
        d_model=c["d_model"],
        d_head=c["d_kv"],
        heads=c["num_heads"],
        d_ff=c["d_ff"],
        encoder_layers=c["num_layers"],
        decoder_layers=c.get("num_decoder_layers") or c["num_layers"],
        activation=_ACTIVATIONS[c["feed_forward_proj"]],
        bias_per_layer=kind == "umt5",
        buckets=c["relative_attention_num_buckets"],
        max_distance=c["relative_attention_max_distance"],
        norm_eps=c["layer_norm_epsilon"],
    )


def _is_tied(described: Mapping[str, Any]) -> bool:
    """Whether the head is the embedding, its input scaled by ``D^-0.5``, as in T5 1.0.

    transformers 5 says so in ``scale_decoder_outputs``, and always writes ``tie_word_embeddings``; up to 4 the
    latter decides, but for mT5, which has a matrix of its own.
    """
    scaled = described.get("scale_decoder_outputs")
    if scaled is None:
        scaled = described.get("tie_word_embeddings", True) and described["model_type"] != "mt5"
    return bool(scaled)
