"""T5Gemma 2: transformers' checkpoints, both ways. Names as in its `models/t5gemma2/modeling_t5gemma2.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openpali.architectures.facts import Facts
from openpali.interop import siglip
from openpali.interop.gemma import describe_shapes, layer_rules, read_shapes
from openpali.interop.names import Rule, read, read_config, require_settings, skeleton, write
from openpali.interop.parts import at_size, describe_positions
from openpali.interop.preprocessor import read_preprocess
from openpali.interop.tokenizer import read_gemma3_tokenizer
from openpali.model.gemma import GemmaConfig
from openpali.model.t5gemma2 import T5Gemma2Config, T5Gemma2Model, whole_squares
from openpali.tasks.dialects import PLAIN
from openpali.text.tokenizer import GEMMA3_PIECES
from openpali.weights.format import write_model
from openpali.weights.tensors import MappedTensors

_FIXED = {
    "attention_bias": False,
    "hidden_activation": "gelu_pytorch_tanh",
    "attn_logit_softcapping": None,
    "tie_word_embeddings": True,
}
_DEFAULTS: Mapping[str, Any] = {  # of transformers, for keys that a configuration leaves out
    "vocab_size": 262_208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-6,
}
_PERIOD = 6  # of layers that see all, where a configuration does not list them
_ROPE = {"full_attention": 1_000_000.0, "sliding_attention": 10_000.0}
_TIED = {  # copies of the embedding -> the one that is read
    "model.decoder.embed_tokens.weight": "model.encoder.embed_tokens.weight",
    "model.decoder.embed_tokens.eoi_embedding": "model.encoder.embed_tokens.eoi_embedding",
    "lm_head.out_proj.weight": "model.encoder.embed_tokens.weight",
}
_NORMS = {
    "norm_attention": "pre_self_attn_layernorm",
    "post_attention": "post_self_attn_layernorm",
    "norm_ff": "pre_feedforward_layernorm",
    "post_ff": "post_feedforward_layernorm",
    "attention.norm_query": "self_attn.q_norm",
    "attention.norm_key": "self_attn.k_norm",
}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint under the names of :class:`openpali.model.t5gemma2.T5Gemma2Model`.

    ``config`` has the tokens for begin and end of an image alone around it.
    """

    config: T5Gemma2Config
    weights: Mapping[str, Tensor]


def is_t5gemma2(source: Path) -> bool:
    """Whether a folder says that it holds a T5Gemma 2."""
    return (source / "config.json").is_file() and read_config(source)["model_type"] == "t5gemma2"


def read_t5gemma2(folder: Path) -> Checkpoint:
    """Read a transformers folder, in one file or in shards.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: it is another kind of model, or tensors are missing, unknown or have another shape.
    """
    described, where = read_config(folder), str(folder)
    if described["model_type"] != "t5gemma2":
        raise ValueError(f"{folder} holds a {described['model_type']!r}, not a T5Gemma 2")
    sides = dict(described.get("encoder") or {})
    vision, _ = siglip.vision_config(dict(sides.get("vision_config") or {}), where)
    encoder = {**_DEFAULTS, **dict(sides.get("text_config") or {})}
    decoder = {**_DEFAULTS, **dict(described.get("decoder") or {})}
    config = T5Gemma2Config(
        vision,
        _text_config(encoder, where),
        _text_config(decoder, where),
        pool=_pool(vision.grid, sides.get("mm_tokens_per_image", 256), where),
        before=(sides.get("boi_token_index", 255_999),),
        after=(sides.get("eoi_token_index", 256_000),),
        image_token=described.get("image_token_index", 256_001),
        longest=encoder["max_position_embeddings"],
    )
    found = {_modern(key): value for key, value in MappedTensors(folder).items()}
    for copy, original in _TIED.items():
        if copy in found and not torch.equal(found.pop(copy), found[original]):
            raise ValueError(f"{folder}: {copy} differs from {original}, and they are one in every T5Gemma 2")
    weights = read(rules(config), skeleton(lambda: T5Gemma2Model(config)), found, where)
    return Checkpoint(config, weights)


def adopt_t5gemma2(source: Path, out: Path, *, size: tuple[int, int] | None = None) -> list[str]:
    """Write a T5Gemma 2 folder.

    Args:
        source: a transformers folder with its tokenizer, see :func:`read_gemma3_tokenizer`.
        out: folder to write.
        size: height and width of images in pixels; by default the checkpoint's own. Position embeddings are
            resampled.

    Returns:
        Lines of text about what was adopted.

    Raises:
        FileNotFoundError, ValueError: as the functions above; or the tokenizer or the size does not fit.
    """
    found = read_t5gemma2(source)
    tokenizer = read_gemma3_tokenizer(source)
    rows, marks = found.config.encoder.vocab_size, (*found.config.before, *found.config.after)
    if tokenizer.vocab_size > rows or tuple(map(tokenizer.piece_id, GEMMA3_PIECES)) != marks:
        raise ValueError(
            f"{source}: its tokenizer has {tokenizer.vocab_size} ids, its embedding {rows} rows, and {marks[0]} "
            f"and {marks[1]} are {' and '.join(GEMMA3_PIECES)}: put the tokenizer of this checkpoint beside it"
        )
    vision, blank = found.config.vision, tuple(tokenizer.encode("\n\n"))
    positions, grid = at_size(vision, found.weights["vit.positions"], size)
    config = replace(
        found.config,
        vision=replace(vision, grid=grid),
        bos=tokenizer.bos_id,
        before=(*blank, marks[0]),
        after=(marks[1], *blank),
    )
    whole_squares(config.pool, config.vision)
    write_model(
        out,
        {**found.weights, "vit.positions": positions},
        config,
        preprocess=read_preprocess(source, *config.vision.image_size),
        tokenizer=tokenizer,
        facts=Facts(
            parts={"model": str(source)},
            dialect=PLAIN.name,
            max_prompt=config.longest,
            positions=describe_positions(vision.grid, grid),
        ),
    )
    side = " x ".join(str(n) for n in config.vision.image_size)
    tokens, layers = grid[0] * grid[1] // config.pool**2, f"{config.encoder.layers} + {config.decoder.layers}"
    return [
        f"T5Gemma 2: {len(found.weights)} tensors, image encoder of {vision.depth} layers of {vision.width}, "
        f"{side} pixels, {tokens} visual tokens, language model of {layers} layers of {config.encoder.d_model}",
        f"vocabulary: {tokenizer.vocab_size} tokens, {rows} rows",
    ]


def write_t5gemma2(
    weights: Mapping[str, Tensor], config: T5Gemma2Config
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """As transformers' `T5Gemma2ForConditionalGeneration`: tensors and configuration.

    Args:
        weights: of :class:`openpali.model.t5gemma2.T5Gemma2Model`.
        config: its shape.
    """
    rows, columns = config.vision.grid
    tokens = {"bos_token_id": config.bos, "eos_token_id": 1, "pad_token_id": T5Gemma2Model.pad}
    common = {"max_position_embeddings": config.longest, **tokens}
    places = {"eoi_token_index": config.after[0], "image_token_index": config.image_token}
    described = {
        "architectures": ["T5Gemma2ForConditionalGeneration"],
        "model_type": "t5gemma2",
        "is_encoder_decoder": True,
        "encoder": {
            "model_type": "t5gemma2_encoder",
            "vision_config": siglip.describe_vision(config.vision, pool=False),
            "text_config": {"model_type": "t5gemma2_text", **_describe_text(config.encoder), **common},
            "mm_tokens_per_image": rows * columns // config.pool**2,
            "boi_token_index": config.before[-1],
            **places,
        },
        "decoder": {"model_type": "t5gemma2_decoder", **_describe_text(config.decoder), **common},
        "vocab_size": config.decoder.vocab_size,
        **places,
        **tokens,
    }
    return write(rules(config), weights), described


def rules(config: T5Gemma2Config) -> list[Rule]:
    """transformers' names."""
    found = [
        replace(rule, theirs=tuple(f"model.encoder.vision_tower.{_bare(name)}" for name in rule.theirs))
        for rule in siglip.rules(config.vision, None, pool=False)
    ]
    projector = "model.encoder.multi_modal_projector"
    return [
        *found,
        Rule(("project.norm.weight",), (f"{projector}.mm_soft_emb_norm.weight",)),
        Rule(("project.linear.weight",), (f"{projector}.mm_input_projection_weight",), torch.t, torch.t),
        Rule(("text.embed.weight",), ("model.encoder.embed_tokens.weight",)),
        Rule(("text.embed.after_image",), ("model.encoder.embed_tokens.eoi_embedding",)),
        Rule(("text.encoder.norm.weight",), ("model.encoder.norm.weight",)),
        Rule(("text.decoder.norm.weight",), ("model.decoder.norm.weight",)),
        *layer_rules("text.encoder", "model.encoder", config.encoder.layers, _NORMS),
        *layer_rules("text.decoder", "model.decoder", config.decoder.layers, _NORMS),
    ]


def _bare(key: str) -> str:
    return key.removeprefix("vision_model.")


def _modern(key: str) -> str:
    """The name in files that transformers writes today, of one in its modules or in a file of any version."""
    key = key.replace("model.encoder.text_model.", "model.encoder.")
    return key.replace("vision_tower.vision_model.", "vision_tower.")


def _text_config(described: Mapping[str, Any], where: str) -> GemmaConfig:
    c = described
    require_settings(c, _FIXED, where)
    ropes = {kind: _rope(c, kind, where) for kind in _ROPE}
    if ropes["sliding_attention"][1] != 1:
        raise ValueError(f"{where} scales the positions of layers with a window, which cannot be read")
    near = ["sliding" in kind for kind in c.get("layer_types") or []]
    period = near.index(False) + 1 if False in near else len(near) + 1 if near else _PERIOD
    config = GemmaConfig(
        **read_shapes(c),
        query_scalar=c["query_pre_attn_scalar"],
        rope_base=ropes["full_attention"][0],
        norm_eps=c["rms_norm_eps"],
        post_norms=True,
        logit_cap=c.get("final_logit_softcapping"),
        window=c["sliding_window"],
        period=period,
        qk_norms=True,
        near_base=ropes["sliding_attention"][0],
        rope_factor=ropes["full_attention"][1],
    )
    if near and c["layer_types"] != _layer_types(config):
        raise ValueError(
            f"{where}: layer_types are not one layer in {period} that sees all, which alone can be read"
        )
    return config


def _rope(described: Mapping[str, Any], kind: str, where: str) -> tuple[float, float]:
    """Base of the rotation in layers of a kind, and what positions are divided by."""
    found = {"rope_type": "default", **((described.get("rope_parameters") or {}).get(kind) or {})}
    if found["rope_type"] not in ("default", "linear"):
        raise ValueError(f"{where}: rope_type = {found['rope_type']!r} (only 'default' and 'linear' can be read)")
    factor = found["factor"] if found["rope_type"] == "linear" else 1.0
    return float(found.get("rope_theta", _ROPE[kind])), float(factor)


def _layer_types(config: GemmaConfig) -> list[str]:
    return [f"{'sliding' if config.is_near(i) else 'full'}_attention" for i in range(config.layers)]


def _describe_text(t: GemmaConfig) -> dict[str, Any]:
    scaled = {"rope_type": "default"} if t.rope_factor == 1 else {"rope_type": "linear", "factor": t.rope_factor}
    return {
        **describe_shapes(t),
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": t.query_scalar,
        "sliding_window": t.window,
        "final_logit_softcapping": t.logit_cap,
        "layer_types": _layer_types(t),
        "rope_parameters": {
            "full_attention": {**scaled, "rope_theta": t.rope_base},
            "sliding_attention": {"rope_type": "default", "rope_theta": t.near_base},
        },
    }


def _pool(grid: tuple[int, int], tokens: int, where: str) -> int:
    """The side of the squares of patches that become ``tokens`` visual tokens."""
    pool = max(1, grid[0] // math.isqrt(tokens))
    if (grid[0] // pool) * (grid[1] // pool) != tokens or grid[0] % pool or grid[1] % pool:
        raise ValueError(f"{where}: {grid[0]} x {grid[1]} patches are not averaged into {tokens} tokens evenly")
    return pool
