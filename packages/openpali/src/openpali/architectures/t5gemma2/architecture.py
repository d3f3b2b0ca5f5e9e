"""T5Gemma 2: transformers' checkpoints, both ways. Names as in its `models/t5gemma2/modeling_t5gemma2.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openpali.architectures.base import Architecture, Exported, Stored
from openpali.architectures.facts import Facts
from openpali.architectures.halves import gemma
from openpali.architectures.preprocessor import describe_preprocess, read_preprocess
from openpali.architectures.rules import Rule, drop_copies, read, read_config, require_settings, skeleton, write
from openpali.architectures.siglip import architecture as siglip
from openpali.architectures.siglip.architecture import SO400M
from openpali.architectures.t5gemma2.network import DecoderLayer, T5Gemma2Config, T5Gemma2Model
from openpali.architectures.tokenizer import describe_tokenizer, read_gemma_tokenizer
from openpali.model.gemma import GemmaConfig, Layer
from openpali.model.vit import Block
from openpali.tasks.dialects import Dialect
from openpali.tensors import MappedTensors
from openpali.text.masks import MaskText
from openpali.text.tokenizer import Tokenizer, mark_special

# for models that were only pretrained: a question is asked as it is, the other prompts are ours
DIALECT = Dialect(
    name="plain",
    prompts={
        "caption": "Caption in {lang}:",
        "ocr": "Text in the image:",
        "question_generation": "Question in {lang} with the answer {text}:",
        "vqa": "{text}",
        "detect": "Boxes of {text}:",
        "refseg": "Box and mask of {text}:",
    },
    ocr="OCR: {text}",
    names_joiner=" and ",
    masks=MaskText("<seg", digits=3, joiner=""),
)
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
_SO400M_896 = replace(SO400M, grid=(64, 64))
PRESETS: Mapping[str, T5Gemma2Config] = {
    # SigLIP So400m/14 at 896 pixels, and twice Gemma 3 270M, 1B or 4B
    "t5gemma2-270m": T5Gemma2Config(_SO400M_896, _GEMMA3_270M, _GEMMA3_270M),
    "t5gemma2-1b": T5Gemma2Config(_SO400M_896, _GEMMA3_1B, _GEMMA3_1B),
    "t5gemma2-4b": T5Gemma2Config(_SO400M_896, _GEMMA3_4B, _GEMMA3_4B),
}

IMAGE_PIECES = ("<start_of_image>", "<end_of_image>")
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


class T5Gemma2Architecture(Architecture[T5Gemma2Config]):
    """SigLIP and an encoder-decoder of Gemma 3's layers."""

    kind = "t5gemma2"
    config = T5Gemma2Config
    network = T5Gemma2Model
    answers = True
    presets = PRESETS
    sides = (448, 896)
    blocks = {Block: (), Layer: (), DecoderLayer: ("attention.key_value",)}
    dialect = DIALECT
    model_types = ("t5gemma2",)

    def pool(self, config: T5Gemma2Config) -> int:
        return config.pool

    def vocabulary(self, config: T5Gemma2Config) -> int:
        return config.decoder.vocab_size

    def read(self, source: Path) -> Stored[T5Gemma2Config]:
        """A folder with its tokenizer, whose tokens around images must be those of the configuration."""
        found = read_t5gemma2(source)
        tokenizer = read_gemma_tokenizer(source, lambda proto: Tokenizer(mark_special(proto, IMAGE_PIECES)))
        rows, marks = found.config.encoder.vocab_size, (*found.config.before, *found.config.after)
        if tokenizer.vocab_size > rows or tuple(map(tokenizer.piece_id, IMAGE_PIECES)) != marks:
            raise ValueError(
                f"{source}: its tokenizer has {tokenizer.vocab_size} ids, its embedding {rows} rows, and "
                f"{marks[0]} and {marks[1]} are {' and '.join(IMAGE_PIECES)}: put the tokenizer of this "
                "checkpoint beside it"
            )
        vision, blank = found.config.vision, tuple(tokenizer.encode("\n\n"))
        config = replace(
            found.config,
            bos=tokenizer.bos_id,
            before=(*blank, marks[0]),
            after=(marks[1], *blank),
        )
        layers = f"{config.encoder.layers} + {config.decoder.layers}"
        about = [
            f"T5Gemma 2: {len(found.weights)} tensors, image encoder of {vision.depth} layers of {vision.width}, "
            f"language model of {layers} layers of {config.encoder.d_model}",
            f"vocabulary: {tokenizer.vocab_size} tokens, {rows} rows",
        ]
        return Stored(
            config,
            found.weights,
            read_preprocess(source, *vision.image_size),
            tokenizer,
            Facts(parts={"model": str(source)}, dialect=DIALECT.name, max_prompt=config.longest),
            about,
        )

    def write(self, model: Stored[T5Gemma2Config]) -> dict[str, Exported]:
        assert model.tokenizer is not None
        weights, described = write_t5gemma2(model.weights, model.config)
        rows, columns = model.config.vision.grid
        before, after = IMAGE_PIECES
        place = "<image_soft_token>"  # becomes a new token, unless the model's own is a piece of the vocabulary
        if model.config.image_token < model.tokenizer.vocab_size:
            [place] = model.tokenizer.pieces([model.config.image_token])
        texts = describe_tokenizer(
            model.tokenizer,
            "GemmaTokenizer",
            processor_class="Gemma3Processor",
            add_bos_token=True,
            extra_special_tokens={"image_token": place, "boi_token": before, "eoi_token": after},
        )
        files = {
            **describe_preprocess(model.preprocess, "Gemma3ImageProcessor"),
            "tokenizer_config.json": texts,
            "processor_config.json": {
                "processor_class": "Gemma3Processor",
                "image_seq_length": rows * columns // model.config.pool**2,
            },
            "config.json": described,
        }
        return {"": Exported(weights, files, "tokenizer.model")}


def read_t5gemma2(folder: Path) -> Stored[T5Gemma2Config]:
    """Read a transformers folder, in one file or in shards."""
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
    drop_copies(found, _TIED, where)
    weights = read(rules(config), skeleton(lambda: T5Gemma2Model(config)), found, where)
    return Stored(config, weights)


def write_t5gemma2(
    weights: Mapping[str, Tensor], config: T5Gemma2Config
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """As transformers' `T5Gemma2ForConditionalGeneration`: tensors and configuration."""
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
    tower = "model.encoder.vision_tower"
    found = [
        replace(rule, theirs=tuple(name.replace("vision_model", tower, 1) for name in rule.theirs))
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
        *gemma.layer_rules("text.encoder", "model.encoder", config.encoder.layers, _NORMS),
        *gemma.layer_rules("text.decoder", "model.decoder", config.decoder.layers, _NORMS),
    ]


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
        **gemma.read_shapes(c),
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
        **gemma.describe_shapes(t),
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
