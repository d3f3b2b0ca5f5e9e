"""PaliGemma (arXiv 2407.07726, 2412.03555): patch tokens -> one linear projection -> before the prompt -> Gemma.

    visual tokens, BOS, prompt, separator | text, EOS

What stands before the bar sees all of itself, the text is causal. Keys and values of the prefix are the memory from
which text is generated, in the same cache as that of an encoder-decoder. The separator is not in it: being the last
of the prefix, it sees exactly what the first token of a decoder would, and so starts the text.

It reads transformers' checkpoints, and writes them. Names as in transformers'
`models/paligemma/modeling_paligemma.py`, of which there are three generations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from openpali.architectures.base import Architecture, Exported, Stored
from openpali.architectures.facts import Facts
from openpali.architectures.halves import gemma
from openpali.architectures.preprocessor import FILE, describe_preprocess, read_preprocess
from openpali.architectures.rules import Rule, drop_copies, read, read_config, require_settings, skeleton, write
from openpali.architectures.siglip import architecture as siglip
from openpali.architectures.siglip.architecture import SO400M
from openpali.architectures.tokenizer import describe_tokenizer, read_gemma_tokenizer, require_rows
from openpali.model.cache import Cache, Pair
from openpali.model.gemma import Gemma, GemmaConfig, Layer, prefix_masks
from openpali.model.layers import Dense
from openpali.model.vision_language import Head, Memory, VisionLanguageModel
from openpali.model.vit import Block, ViTConfig
from openpali.tasks.dialects import Dialect
from openpali.tensors import MappedTensors
from openpali.text.masks import MaskText
from openpali.text.tokenizer import MASK_TOKENS, Tokenizer, extend_proto


@dataclass(frozen=True)
class PaliGemmaConfig:
    """Shapes of the two halves, and ids of tokens."""

    vision: ViTConfig
    text: GemmaConfig
    bos: int = 2  # what the tokenizer has for the beginning of a prompt
    separator: int = 108  # and for its end
    image_token: int = 257_152  # what transformers puts into a prompt for each visual token; nothing here reads it


class PaliGemmaModel(VisionLanguageModel):
    """Images and prompts in, hidden states or text out; inputs as for :class:`VisionLanguageModel`."""

    first_is_read = True  # the separator

    def __init__(self, config: PaliGemmaConfig) -> None:
        super().__init__(config.vision, Dense(config.vision.width, config.text.d_model))
        self.config = config
        self.first = config.separator
        self.text = Gemma(config.text)

    def encode_tokens(self, visual_BND: Tensor | None, prompt: Tensor, counts: Tensor | None = None) -> Memory:
        """The prefix without its separator, embedded: visual tokens, BOS and prompt."""
        return Memory(*self.assemble(visual_BND, prompt, counts))

    def embed_prompt(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        prompt = F.pad(prompt, (1, 0), value=self.config.bos)
        return self.text.embed(prompt), prompt != self.pad

    def decode(self, targets: Tensor, memory: Memory) -> Tensor:
        x_BND, real_BN = memory
        assert real_BN is not None
        n, text = x_BND.shape[1], self.shift(targets)
        end_B = real_BN.sum(1) + 1  # of the prefix: the separator's position
        positions = torch.cat([_count(real_BN), _following(end_B, text.shape[1])], dim=1)
        masks = prefix_masks(positions, positions, end_B, self.config.text.window)
        hidden: Tensor = self.text(torch.cat([x_BND, self.text.embed(text)], dim=1), positions, masks)
        return hidden[:, n:]

    @property
    def head(self) -> Head:
        return Head(self.text.embed.matrix, self.config.text.logit_cap)

    def start(self, memory: Memory, max_length: int) -> Cache:
        x_BND, real_BN = memory
        assert real_BN is not None
        n, end_B = x_BND.shape[1], real_BN.sum(1) + 1
        separator = torch.full_like(end_B, self.first)[:, None]
        positions = torch.cat([_count(real_BN), end_B[:, None]], dim=1)
        masks = prefix_masks(positions[:, -1:], positions, end_B, None)  # the same for all of the prefix
        prefixes: list[Pair] = []

        def keep(keys: Tensor, values: Tensor) -> Pair:
            prefixes.append((keys[:, :, :n], values[:, :, :n]))
            return keys, values

        self.text(torch.cat([x_BND, self.text.embed(separator)], dim=1), positions, masks, repeat(keep))
        return Cache(prefixes, real_BN, max_length)

    def step(self, ids: Tensor, cache: Cache) -> Tensor:
        places = cache.reserve(ids.shape[1])
        real_BN = cache.memory.expand_to_rows(cache.memory.real())
        end_B = real_BN.sum(1) + 1
        queries = end_B[:, None] + places.positions(ids.device)
        keys = torch.cat([_count(real_BN), _following(end_B, places.end)], dim=1)
        masks = prefix_masks(queries, keys, end_B, self.config.text.window)
        return self.logits(self.text(self.text.embed(ids), queries, masks, cache.extends(places, merged=True)))


def _count(real_BN: Tensor) -> Tensor:
    """The position of each real one, from 1; 0 is padding."""
    return real_BN.cumsum(1) * real_BN


def _following(end_B: Tensor, length: int) -> Tensor:
    """Positions of ``length`` tokens after each prefix, the first of which is the separator: ``[B, length]``."""
    return end_B[:, None] + torch.arange(length, device=end_B.device)


DIALECT = Dialect(  # PaliGemma section 3.2.5; the outputs of its "mix" checkpoints
    name="paligemma",
    prompts={
        "caption": "caption {lang}",
        "ocr": "ocr",
        "question_generation": "question {lang} {text}",
        "vqa": "answer {lang} {text}",
        "detect": "detect {text}",
        "refseg": "segment {text}",
    },
    ocr="OCR: {text}",
    names_joiner=" ; ",
    objects_joiner=" ; ",
    masks=MaskText("<seg", digits=3, joiner=""),
    names_segments=True,
    floors_masks=True,
    options={
        "detect": {"bins": 1024, "style": "token"},
        "refseg": {"bins": 1024, "style": "token"},
    },
)
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
PRESETS: Mapping[str, PaliGemmaConfig] = {
    # SigLIP So400m/14 and Gemma 2B, or Gemma 2 2B, 9B and 27B, as published; at 224, 448 and 896 pixels
    "paligemma-3b": PaliGemmaConfig(SO400M, _GEMMA_2B),
    "paligemma2-3b": PaliGemmaConfig(SO400M, _GEMMA2_2B),
    "paligemma2-10b": PaliGemmaConfig(SO400M, _GEMMA2_9B),
    "paligemma2-28b": PaliGemmaConfig(SO400M, _GEMMA2_27B),
}

_FIXED = {"attention_bias": False, "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True}
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {  # of transformers, for keys that a configuration leaves out
    "gemma": {
        "vocab_size": 256_000,
        "hidden_size": 3072,
        "intermediate_size": 24_576,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": 256,
    },
    "gemma2": {
        "vocab_size": 256_000,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
}
PIECES = [*(f"<loc{k:04d}>" for k in range(1024)), *(f"<seg{k:03d}>" for k in range(MASK_TOKENS))]
"""What the vocabulary adds to Gemma's, in id order: locations, then codes of masks."""
_HEADS = re.compile(r"(language_model\.)?lm_head\.weight")
_EMBEDDING = "language_model.model.embed_tokens.weight"


FILTER = "bilinear"  # how big_vision resized images in training; transformers' processor says bicubic


class PaliGemmaArchitecture(Architecture[PaliGemmaConfig]):
    """SigLIP and Gemma, or Gemma 2."""

    kind = "paligemma"
    config = PaliGemmaConfig
    network = PaliGemmaModel
    answers = True
    presets = PRESETS
    sides = (224, 448, 896)
    blocks = {Block: (), Layer: ()}
    dialect = DIALECT
    model_types = ("paligemma",)

    def read(self, source: Path) -> Stored[PaliGemmaConfig]:
        """A folder with its tokenizer (:func:`read_tokenizer`)."""
        found = read_paligemma(source)
        tokenizer = read_tokenizer(source)
        t, vision = found.config.text, found.config.vision
        require_rows(source, tokenizer.vocab_size, t.vocab_size)
        config = replace(found.config, bos=tokenizer.bos_id, separator=tokenizer.piece_id("\n"))
        about = [
            f"PaliGemma{' 2' if t.post_norms else ''}: {len(found.weights)} tensors, image encoder of "
            f"{vision.depth} layers of {vision.width}, language model of {t.layers} layers of {t.d_model}",
            f"vocabulary: {tokenizer.vocab_size} tokens, {t.vocab_size} rows",
        ]
        return Stored(
            config,
            found.weights,
            replace(read_preprocess(source, *vision.image_size), filter=FILTER),
            tokenizer,
            Facts(parts={"model": str(source)}, dialect=DIALECT.name),
            about,
        )

    def write(self, model: Stored[PaliGemmaConfig]) -> dict[str, Exported]:
        assert model.tokenizer is not None
        weights, described = write_paligemma(model.weights, model.config)
        texts = describe_tokenizer(
            model.tokenizer,
            "GemmaTokenizer",
            processor_class="PaliGemmaProcessor",  # which adds BOS itself
            add_bos_token=False,
            extra_special_tokens={"image_token": "<image>"},
        )
        files = {**describe_preprocess(model.preprocess), "tokenizer_config.json": texts, "config.json": described}
        files[FILE]["image_seq_length"] = model.config.vision.grid[0] ** 2
        return {"": Exported(weights, files, "tokenizer.model")}


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a PaliGemma, from a SentencePiece model, with or without location and mask tokens."""
    return read_gemma_tokenizer(folder, lambda proto: Tokenizer(extend_proto(proto, PIECES)))


def write_paligemma(
    weights: Mapping[str, Tensor], config: PaliGemmaConfig
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """As transformers' `PaliGemmaForConditionalGeneration`: tensors and configuration."""
    t = config.text
    tokens = {"bos_token_id": config.bos, "eos_token_id": 1, "pad_token_id": PaliGemmaModel.pad}
    kind, activation = ("gemma2", "hidden_activation") if t.post_norms else ("gemma", "hidden_act")
    text = {
        "model_type": kind,
        **gemma.describe_shapes(t),
        "rope_theta": t.rope_base,
        activation: "gelu_pytorch_tanh",
        **tokens,
    }
    if t.post_norms:
        text |= {
            "query_pre_attn_scalar": t.query_scalar,
            "sliding_window": t.window,
            "attn_logit_softcapping": t.score_cap,
            "final_logit_softcapping": t.logit_cap,
        }
    described = {
        "architectures": ["PaliGemmaForConditionalGeneration"],
        "model_type": "paligemma",
        "image_token_index": config.image_token,
        "projection_dim": t.d_model,
        "hidden_size": t.d_model,
        "vision_config": {**siglip.describe_vision(config.vision, pool=False), "projection_dim": t.d_model},
        "text_config": text,
        **tokens,
    }
    return write(rules(config), weights), described


def rules(config: PaliGemmaConfig) -> list[Rule]:
    """transformers' names."""
    found = [
        replace(rule, theirs=tuple(f"vision_tower.{name}" for name in rule.theirs))
        for rule in siglip.rules(config.vision, None, pool=False)
    ]
    found += [Rule((f"project.{kind}",), (f"multi_modal_projector.linear.{kind}",)) for kind in ("weight", "bias")]
    found += [
        Rule(("text.embed.weight",), (_EMBEDDING,)),
        Rule(("text.norm.weight",), ("language_model.model.norm.weight",)),
    ]
    norms = {"norm_attention": "input_layernorm", "norm_ff": "post_attention_layernorm"}
    if config.text.post_norms:
        norms |= {
            "post_attention": "post_attention_layernorm",
            "norm_ff": "pre_feedforward_layernorm",
            "post_ff": "post_feedforward_layernorm",
        }
    return found + gemma.layer_rules("text", "language_model.model", config.text.layers, norms)


def read_paligemma(folder: Path) -> Stored[PaliGemmaConfig]:
    """Read a transformers folder, in one file or in shards."""
    described, where = read_config(folder), str(folder)
    if described["model_type"] != "paligemma":
        raise ValueError(f"{folder} holds a {described['model_type']!r}, not a PaliGemma")
    vision, _ = siglip.vision_config(dict(described.get("vision_config") or {}), where)
    text = _text_config(dict(described.get("text_config") or {}), where)
    config = PaliGemmaConfig(vision, text, image_token=described.get("image_token_index", 256_000))
    found = {_modern(key): value for key, value in MappedTensors(folder).items()}
    drop_copies(found, {key: _EMBEDDING for key in found if _HEADS.fullmatch(key)}, where)
    weights = read(rules(config), skeleton(lambda: PaliGemmaModel(config)), found, where)
    return Stored(config, weights)


def _modern(key: str) -> str:
    """The name in the checkpoints that were published, of one in a file of any version of transformers."""
    key = re.sub(r"^model\.(?=language_model\.|vision_tower\.|multi_modal_projector\.)", "", key)
    key = re.sub(r"^language_model\.(?!model\.|lm_head\.)", "language_model.model.", key)
    return re.sub(r"^vision_tower\.(?!vision_model\.)", "vision_tower.vision_model.", key)


def _text_config(described: dict[str, Any], where: str) -> GemmaConfig:
    kind = described.get("model_type", "gemma")
    if kind not in _DEFAULTS:
        raise ValueError(f"{where} has a {kind!r} as its language model, which is none of {', '.join(_DEFAULTS)}")
    require_settings(described, _FIXED, where)
    c = {**_DEFAULTS[kind], **described}
    rope = {"rope_type": "default", "rope_theta": c.get("rope_theta", 10_000.0), **(c.get("rope_parameters") or {})}
    require_settings(rope, {"rope_type": "default"}, where)
    alternating = [("full" if i % 2 else "sliding") + "_attention" for i in range(c["num_hidden_layers"])]
    gemma2 = kind == "gemma2"
    if gemma2:
        require_settings(c, {"layer_types": alternating}, where)
    return GemmaConfig(
        **gemma.read_shapes(c),
        query_scalar=c["query_pre_attn_scalar"] if gemma2 else c["head_dim"],
        rope_base=rope["rope_theta"],
        norm_eps=c.get("rms_norm_eps", 1e-6),
        post_norms=gemma2,
        score_cap=c.get("attn_logit_softcapping"),
        logit_cap=c.get("final_logit_softcapping"),
        window=c.get("sliding_window"),
    )
