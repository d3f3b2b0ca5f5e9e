"""Florence-2 (arXiv 2311.06242): DaViT into BART; a prompt asks for a task, and places are words of the answer.

    mean token, tokens of the image, BOS, prompt, EOS -> encoder | EOS, BOS, text, EOS

It reads and writes transformers' checkpoints: names as in its `models/florence2/modeling_florence2.py`, prompts
and bins as in `processing_florence2.py` there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openpali.architectures.base import Architecture, Exported, Stored
from openpali.architectures.facts import Facts, Json
from openpali.architectures.preprocessor import FILE, IMAGENET, describe_preprocess, read_preprocess, read_size
from openpali.architectures.rules import (
    Rule,
    dense,
    drop_copies,
    read,
    read_config,
    read_json,
    require_settings,
    skeleton,
    write,
)
from openpali.architectures.tokenizer import require_rows
from openpali.data.pipeline.encode import TEXT_MULTIPLE
from openpali.model.cache import Cache
from openpali.model.init import init_children
from openpali.model.layers import Linear
from openpali.model.vision_language import Head, Memory, VisionLanguageModel
from openpali.tasks.dialects import Dialect
from openpali.tensors import MappedTensors
from openpali.text.byte_pairs import ROLES, BytePairTokenizer
from openpali.text.load import load_tokenizer
from openpali.text.places import NamedFirst, Outlines
from openpali_lab.florence2.bart import Bart, BartConfig, DecoderLayer, EncoderLayer
from openpali_lab.florence2.davit import KERNELS, MLP_RATIO, PADDINGS, PATCH, STRIDES, DaViT, DaViTConfig, DualBlock


@dataclass(frozen=True)
class Florence2Config:
    """Shapes of the two halves, and of what is between them.

    Attributes:
        side: rows and columns of tokens that have positions.
        frames: embeddings of time; images have the first.
        image_token: what transformers puts into a prompt for each visual token; nothing here reads it.
    """

    vision: DaViTConfig
    text: BartConfig
    side: int = 50
    frames: int = 100
    image_token: int = 51_289


class Projector(nn.Module):
    """Tokens of the image encoder ``[B, N, D]`` on a grid -> visual tokens ``[B, 1 + N, D']``, their mean first."""

    def __init__(self, config: Florence2Config) -> None:
        super().__init__()
        width = config.vision.width
        self.columns = nn.Parameter(torch.empty(config.side, width - width // 2))
        self.rows = nn.Parameter(torch.empty(config.side, width // 2))
        self.register_buffer("times", torch.empty(config.frames, width))
        self.linear = Linear(width, config.text.d_model, bias=False)
        self.norm = nn.LayerNorm(config.text.d_model)

    def init_weights(self) -> None:
        init_children(self)
        nn.init.normal_(self.columns)
        nn.init.normal_(self.rows)
        times = cast(Tensor, self.times)
        half = times.shape[1] // 2
        waves = torch.exp(torch.arange(half, device=times.device) * (-math.log(10_000) / half))
        angles = torch.arange(len(times), device=times.device)[:, None] * waves
        times.copy_(torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1))

    def forward(self, x_BND: Tensor, grid: tuple[int, int]) -> Tensor:
        rows, columns = grid
        if max(grid) > (most := len(self.rows)):
            raise ValueError(f"an image of {rows} x {columns} tokens is too large: {most} x {most} at most")
        across = self.columns[None, :columns].expand(rows, -1, -1)
        down = self.rows[:rows, None].expand(-1, columns, -1)
        places_ND = torch.cat([across, down], dim=-1).flatten(0, 1)
        x = x_BND + (places_ND + cast(Tensor, self.times)[0]).to(x_BND.dtype)
        return cast(Tensor, self.norm(self.linear(torch.cat([x.mean(1, keepdim=True), x], dim=1))))


class Florence2Model(VisionLanguageModel):
    """Images and prompts in, hidden states or text out; inputs as for :class:`VisionLanguageModel`."""

    pad = 1
    first = 0  # BOS, which follows what starts the decoder: EOS
    end = 2  # EOS
    image_encoder = DaViT
    vit: DaViT

    def __init__(self, config: Florence2Config) -> None:
        super().__init__(config.vision, Projector(config))
        self.config = config
        self.text = Bart(config.text)

    def visual(self, patches_BND: Tensor) -> Tensor:
        return cast(Tensor, self.project(patches_BND, self.vit.config.grid))

    def check_room(self, images: int, prompt: int) -> None:
        if prompt > (room := _room(self.config, images * (1 + math.prod(self.vit.config.grid)))):
            raise ValueError(
                f"beside {images} images there is room for {max(0, room)} tokens in {self.config.text.positions} "
                f"positions, and the prompt has {prompt}: give fewer images or a shorter prompt"
            )

    def assemble(
        self, visual_BND: Tensor | None, prompt: Tensor, counts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As in the base class, without positions that are padding in all rows: there are few."""
        x, real = super().assemble(visual_BND, prompt, counts)
        longest = int(real.sum(1).max()) if counts is not None else real.shape[1]
        return x[:, :longest], real[:, :longest]

    def embed_prompt(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        real = prompt != self.pad
        ids = F.pad(F.pad(prompt, (1, 0), value=self.first), (0, 1), value=self.pad)
        ids = ids.scatter(1, real.sum(1, keepdim=True) + 1, self.end)
        return self.text.embed(ids), ids != self.pad

    def decode(self, targets: Tensor, memory: Memory) -> Tensor:
        text = F.pad(self.shift(targets), (1, 0), value=self.end)
        return self.text.decode(text, memory.outputs, memory.mask)[:, 1:]

    def logits(self, hidden: Tensor) -> Tensor:
        return self.text.embed.logits(hidden)

    @property
    def head(self) -> Head:
        return Head(self.text.embed.matrix)

    def start(self, memory: Memory, max_length: int) -> Cache:
        cache = self.text.start(memory.outputs, memory.mask, max_length + 1)
        end = torch.full_like(memory.outputs[:, :1, 0], self.end, dtype=torch.long)
        self.text.step(end, cache)
        return cache


def _room(config: Florence2Config, visual: int) -> int:
    """Tokens of a prompt beside so many visual tokens, BOS and EOS; below 0, these alone are too many."""
    return (config.text.positions - visual - 2) // TEXT_MULTIPLE * TEXT_MULTIPLE


_PHRASES = "Locate the phrases in the caption: {text}"
_UNNAMED = frozenset(  # banned_grounding_tokens of the published checkpoints' processor
    [
        *("I", "me", "mine", "you", "your", "yours", "he", "him", "his", "she", "her", "hers", "it"),
        *("its", "they", "them", "their", "theirs", "we", "us", "our", "ours"),
        *("oneself", "myself", "yourself", "himself", "herself", "itself", "ourselves", "yourselves"),
        *("themselves",),
        *("this", "that", "these", "those", "who", "whom", "whose", "which", "what"),
        *("all", "another", "any", "anybody", "anyone", "anything", "each", "everybody", "everyone"),
        *("everything", "few", "many", "nobody", "none"),
        *("one", "several", "some", "somebody", "someone", "something", "a", "an", "the", "image"),
        *("images", "lots"),
        *("each other", "one another", "the image", "a group", "other objects", "a set"),
    ]
)
_DETECT = {"bins": NamedFirst.bins, "style": "token"}
DIALECT = Dialect(
    name="florence2",
    prompts={
        "caption": "What does the image describe?",
        "ocr": "What is the text in the image?",
        "vqa": "{text}",
        "detect": "Locate {text} in the image.",
        "refseg": "Locate {text} in the image with mask",
    },
    shorthands={
        "<CAPTION>": ("caption", "What does the image describe?"),
        "<DETAILED_CAPTION>": ("caption", "Describe in detail what is shown in the image."),
        "<MORE_DETAILED_CAPTION>": ("caption", "Describe with a paragraph what is shown in the image."),
        "<OCR>": ("ocr", "What is the text in the image?"),
        "<OCR_WITH_REGION>": ("ocr", "What is the text in the image, with regions?"),
        "<OD>": ("detect", "Locate the objects with category name in the image."),
        "<DENSE_REGION_CAPTION>": ("detect", "Locate the objects in the image, with their descriptions."),
        "<REGION_PROPOSAL>": ("detect", "Locate the region proposals in the image."),
        "<CAPTION_TO_PHRASE_GROUNDING>": ("detect", _PHRASES),
        "<OPEN_VOCABULARY_DETECTION>": ("detect", "Locate {text} in the image."),
        "<REFERRING_EXPRESSION_SEGMENTATION>": ("refseg", "Locate {text} in the image with mask"),
        "<REGION_TO_SEGMENTATION>": ("refseg", "What is the polygon mask of region {region}"),
        "<REGION_TO_CATEGORY>": ("vqa", "What is the region {region}?"),
        "<REGION_TO_DESCRIPTION>": ("vqa", "What does the region {region} describe?"),
        "<REGION_TO_OCR>": ("vqa", "What text is in the region {region}?"),
    },
    ocr="OCR: {text}",
    names_joiner=" and ",
    objects_joiner="",
    codec=NamedFirst,
    regions=NamedFirst(corners=4),
    outlines=Outlines(),
    options={"detect": _DETECT, "refseg": _DETECT},
    limits={"ocr": 1000, "detect": 1000, "refseg": 1000},  # the decoder has 1,024 positions
    unnamed={_PHRASES: _UNNAMED},
)
_BASE = Florence2Config(
    DaViTConfig((24, 24), (128, 256, 512, 1024), (1, 1, 9, 1), heads=(4, 8, 16, 32), groups=(4, 8, 16, 32)),
    BartConfig(51_289, d_model=768, heads=12, d_ff=3072, encoder_layers=6, decoder_layers=6),
)
_LARGE = Florence2Config(
    replace(_BASE.vision, widths=(256, 512, 1024, 2048), heads=(8, 16, 32, 64), groups=(8, 16, 32, 64)),
    BartConfig(51_289, d_model=1024, heads=16, d_ff=4096, encoder_layers=12, decoder_layers=12),
)
LOCATIONS = 1000
ADDED = [  # to BART's vocabulary, in id order
    *("<od>", "</od>", "<ocr>", "</ocr>"),
    *(f"<loc_{k}>" for k in range(LOCATIONS)),
    *(
        "<cap>",
        "</cap>",
        "<ncap>",
        "</ncap>",
        "<dcap>",
        "</dcap>",
        "<grounding>",
        "</grounding>",
        "<seg>",
        "</seg>",
    ),
    *("<sep>", "<region_cap>", "</region_cap>", "<region_to_desciption>", "</region_to_desciption>"),
    *("<proposal>", "</proposal>", "<poly>", "</poly>", "<and>"),
]
IMAGE_TOKEN = "<image>"
_TOKEN_ROWS = "text.embed.weight"
_PARSED = (  # kinds of answers that transformers' processor parses
    *("ocr", "phrase_grounding", "pure_text", "description_with_bboxes", "description_with_polygons", "polygons"),
    *("bboxes", "description_with_bboxes_or_polygons"),
)
_VISION = {
    "in_channels": 3,
    "patch_size": list(KERNELS),
    "patch_stride": list(STRIDES),
    "patch_padding": list(PADDINGS),
    "patch_prenorm": [False, True, True, True],
    "mlp_ratio": float(MLP_RATIO),
    "qkv_bias": True,
    "activation_function": "gelu",
}
_TOKENS = {
    "pad_token_id": Florence2Model.pad,
    "bos_token_id": Florence2Model.first,
    "eos_token_id": Florence2Model.end,
    "decoder_start_token_id": Florence2Model.end,
}
_TEXT = {"activation_function": "gelu", "scale_embedding": False, "tie_word_embeddings": True, **_TOKENS}
_DEFAULTS = {  # of transformers, for keys that a configuration leaves out
    "depths": [1, 1, 9, 1],
    "embed_dim": [128, 256, 512, 1024],
    "num_heads": [4, 8, 16, 32],
    "num_groups": [4, 8, 16, 32],
    "window_size": 12,
    "max_temporal_embeddings": 100,
    "max_position_embeddings": 50,
}
_TEXT_DEFAULTS = {
    "vocab_size": 50_265,
    "max_position_embeddings": 1024,
    "encoder_layers": 12,
    "decoder_layers": 12,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "decoder_ffn_dim": 4096,
    "d_model": 1024,
}
_EMBEDDING = "model.language_model.shared.weight"
_COPIES = (
    "model.language_model.encoder.embed_tokens.weight",
    "model.language_model.decoder.embed_tokens.weight",
    "lm_head.weight",
)
_SIDE = 768  # pixels of published models' images


class Florence2Architecture(Architecture[Florence2Config]):
    """DaViT and BART."""

    kind = "florence2"
    config = Florence2Config
    network = Florence2Model
    answers = True
    presets = {"florence2-base": _BASE, "florence2-large": _LARGE}
    sides = (_SIDE,)
    blocks = {DualBlock: (), EncoderLayer: (), DecoderLayer: ("cross.key_value",)}
    dialect = DIALECT
    model_types = ("florence2",)
    engine_language = "openpali_lab.florence2.language:BartLanguage"

    def visual_tokens(self, config: Any, size: tuple[int, int] | None = None) -> int:
        return 1 + super().visual_tokens(config, size)

    def longest_prompt(self, config: Florence2Config, size: tuple[int, int] | None = None) -> int:
        visual = self.visual_tokens(config, size)
        if (room := _room(config, visual)) < TEXT_MULTIPLE:
            raise ValueError(
                f"an image of {visual} tokens leaves no room for a prompt in {config.text.positions} positions: "
                "give a smaller size"
            )
        return room

    def longest_target(self, config: Florence2Config) -> int:
        return config.text.positions - 1  # the first is of the token that starts the decoder

    def read(self, source: Path) -> Stored[Florence2Config]:
        """A folder with its tokenizer: BART's, or one to which the tokens of places were added."""
        found = read_florence2(source)
        tokenizer = read_tokenizer(source)
        vision, text, generation = found.config.vision, found.config.text, _generation(source)
        require_rows(source, tokenizer.vocab_size, text.vocab_size)
        about = [
            f"Florence-2: {len(found.weights)} tensors, image encoder of {sum(vision.depths)} blocks up to "
            f"{vision.width}, language model of {text.encoder_layers} + {text.decoder_layers} layers of "
            f"{text.d_model}",
            f"vocabulary: {tokenizer.vocab_size} tokens, {text.vocab_size} rows",
        ]
        return Stored(
            found.config,
            found.weights,
            read_preprocess(source, *vision.image_size, values=IMAGENET),
            tokenizer,
            Facts(
                parts={"model": str(source)},
                dialect=DIALECT.name,
                no_repeat_ngram_size=generation.get("no_repeat_ngram_size") or None,
                kept=_kept(source, generation),
                max_prompt=self.longest_prompt(found.config),
            ),
            about,
        )

    def write(self, model: Stored[Florence2Config]) -> dict[str, Exported]:
        """With rows for the token of images, which BART's vocabulary lacks and transformers embeds before it
        puts visual tokens there: the mean of all rows, up to a multiple of 64, as transformers adds them."""
        assert isinstance(model.tokenizer, BytePairTokenizer)
        tokenizer = model.tokenizer.extended([IMAGE_TOKEN])
        weights, text = dict(model.weights), model.config.text
        if more := max(0, tokenizer.vocab_size - text.vocab_size):
            rows = weights[_TOKEN_ROWS]
            added = rows.float().mean(0, keepdim=True).to(rows.dtype).expand(more + -tokenizer.vocab_size % 64, -1)
            weights[_TOKEN_ROWS] = torch.cat([rows, added])
            text = replace(text, vocab_size=len(weights[_TOKEN_ROWS]))
        config = replace(model.config, text=text, image_token=tokenizer.piece_id(IMAGE_TOKEN))
        weights, described = write_florence2(weights, config)
        images = describe_preprocess(model.preprocess, "CLIPImageProcessor", IMAGENET)
        images[FILE]["image_seq_length"] = self.visual_tokens(model.config)
        files = {
            **images,
            "tokenizer.json": tokenizer.described,
            "tokenizer_config.json": {
                "tokenizer_class": "BartTokenizer",
                "processor_class": "Florence2Processor",
                **{f"{role}_token": piece for role, piece in ROLES.items()},
                "extra_special_tokens": {"image_token": IMAGE_TOKEN},
            },
            "processor_config.json": {
                "processor_class": "Florence2Processor",
                "post_processor_config": model.facts.kept.get("parsing") or {kind: {} for kind in _PARSED},
            },
            "generation_config.json": {
                **_TOKENS,
                "forced_bos_token_id": Florence2Model.first,
                "no_repeat_ngram_size": model.facts.no_repeat_ngram_size or 0,
                "num_beams": model.facts.kept.get("num_beams", 1),
            },
            "config.json": described,
        }
        return {"": Exported(weights, files)}


def read_tokenizer(folder: Path) -> BytePairTokenizer:
    """The tokenizer of a Florence-2, from a `tokenizer.json` of BART, with or without the tokens that it adds."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise FileNotFoundError(f"no tokenizer in {folder}: put the checkpoint's tokenizer.json there")
    tokenizer = load_tokenizer(path)
    if not isinstance(tokenizer, BytePairTokenizer):
        raise ValueError(f"{path} is no tokenizer.json of BART's kind")
    ids = tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id
    if ids != (Florence2Model.pad, Florence2Model.first, Florence2Model.end):
        raise ValueError(f"{path}: pad, begin and end are ids {ids}, and 1, 0 and 2 in every Florence-2")
    return tokenizer.extended(ADDED)


def _generation(folder: Path) -> Json:
    """How a checkpoint generates, which some say in `config.json`."""
    return {**(read_config(folder).get("text_config") or {}), **read_json(folder / "generation_config.json")}


def _kept(folder: Path, generation: Json) -> Json:
    """Beams, which are up to the request here, and how transformers' processor parses answers."""
    parsing = read_json(folder / "processor_config.json").get("post_processor_config")
    found = {"num_beams": generation.get("num_beams"), "parsing": parsing}
    return {name: value for name, value in found.items() if value}


def read_florence2(folder: Path) -> Stored[Florence2Config]:
    """Read a transformers folder, in one file or in shards."""
    described, where = read_config(folder), str(folder)
    vision, text = (dict(described.get(f"{half}_config") or {}) for half in ("vision", "text"))
    if "dim_embed" in vision:
        raise ValueError(
            f"{where} is as Microsoft first published Florence-2: take the model of florence-community"
        )
    require_settings(vision, _VISION, where)
    require_settings(text, _TEXT, where)
    v, t = {**_DEFAULTS, **vision}, {**_TEXT_DEFAULTS, **text}
    for name in ("attention_heads", "ffn_dim"):
        if t[f"encoder_{name}"] != t[f"decoder_{name}"]:
            raise ValueError(f"{where} has other {name} in its encoder than in its decoder, which cannot be read")
    if {len(v[key]) for key in ("embed_dim", "depths", "num_heads", "num_groups")} != {len(STRIDES)}:
        raise ValueError(f"{where}: an image encoder of other than {len(STRIDES)} stages cannot be read")
    height, width = read_size(folder) or (_SIDE, _SIDE)
    config = Florence2Config(
        DaViTConfig(
            (height // PATCH, width // PATCH),
            widths=tuple(v["embed_dim"]),
            depths=tuple(v["depths"]),
            heads=tuple(v["num_heads"]),
            groups=tuple(v["num_groups"]),
            window=v["window_size"],
        ),
        BartConfig(
            t["vocab_size"],
            d_model=t["d_model"],
            heads=t["encoder_attention_heads"],
            d_ff=t["encoder_ffn_dim"],
            encoder_layers=t["encoder_layers"],
            decoder_layers=t["decoder_layers"],
            positions=t["max_position_embeddings"],
        ),
        side=v["max_position_embeddings"],
        frames=v["max_temporal_embeddings"],
        image_token=described.get("image_token_id", Florence2Config.image_token),
    )
    found = dict(MappedTensors(folder))
    drop_copies(found, dict.fromkeys(_COPIES, _EMBEDDING), where)
    weights = read(rules(config), skeleton(lambda: Florence2Model(config)), found, where)
    return Stored(config, weights)


def write_florence2(
    weights: Mapping[str, Tensor], config: Florence2Config
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """As transformers' `Florence2ForConditionalGeneration`: tensors and configuration."""
    v, t = config.vision, config.text
    vision = {
        **_VISION,
        "model_type": "florence_vision",
        "embed_dim": [*v.widths],
        "depths": [*v.depths],
        "num_heads": [*v.heads],
        "num_groups": [*v.groups],
        "window_size": v.window,
        "projection_dim": t.d_model,
        "max_position_embeddings": config.side,
        "max_temporal_embeddings": config.frames,
    }
    text = {
        **_TEXT,
        "model_type": "bart",
        "vocab_size": t.vocab_size,
        "d_model": t.d_model,
        "encoder_layers": t.encoder_layers,
        "decoder_layers": t.decoder_layers,
        "max_position_embeddings": t.positions,
        **{f"{side}_attention_heads": t.heads for side in ("encoder", "decoder")},
        **{f"{side}_ffn_dim": t.d_ff for side in ("encoder", "decoder")},
    }
    described = {
        "architectures": ["Florence2ForConditionalGeneration"],
        "model_type": "florence2",
        "is_encoder_decoder": True,
        "image_token_id": config.image_token,
        "vision_config": vision,
        "text_config": text,
    }
    return write(rules(config), weights), described


def rules(config: Florence2Config) -> list[Rule]:
    """transformers' names."""
    tower, projector, language = (
        f"model.{part}" for part in ("vision_tower", "multi_modal_projector", "language_model")
    )
    found = [
        Rule(("project.columns",), (f"{projector}.image_position_embed.column_embeddings.weight",)),
        Rule(("project.rows",), (f"{projector}.image_position_embed.row_embeddings.weight",)),
        Rule(("project.times",), (f"{projector}.visual_temporal_embed.pos_idx_to_embed",)),
        Rule(("project.linear.weight",), (f"{projector}.image_projection.weight",)),
        *dense("project.norm", f"{projector}.image_proj_norm"),
        Rule((_TOKEN_ROWS,), (_EMBEDDING,)),
    ]
    for stage, depth in enumerate(config.vision.depths):
        found += dense(f"vit.stages.{stage}.down.conv", f"{tower}.convs.{stage}.conv")
        found += dense(f"vit.stages.{stage}.down.norm", f"{tower}.convs.{stage}.norm")
        for block in range(depth):
            for ours, theirs, attention in (("spatial", "spatial", "window"), ("channel", "channel", "channel")):
                here, there = (
                    f"vit.stages.{stage}.blocks.{block}.{ours}",
                    f"{tower}.blocks.{stage}.{block}.{theirs}_block",
                )
                for part, name in (
                    ("place_attention", "conv1"),
                    ("norm_attention", "norm1"),
                    ("attention.qkv", f"{attention}_attn.qkv"),
                    ("attention.out", f"{attention}_attn.proj"),
                    ("place_mlp", "conv2"),
                    ("norm_mlp", "norm2"),
                    ("mlp.up", "ffn.fc1"),
                    ("mlp.down", "ffn.fc2"),
                ):
                    found += dense(f"{here}.{part}", f"{there}.{name}")
    for side, layers in (("encoder", config.text.encoder_layers), ("decoder", config.text.decoder_layers)):
        found.append(Rule((f"text.{side}.positions",), (f"{language}.{side}.embed_positions.weight",)))
        found += dense(f"text.{side}.norm", f"{language}.{side}.layernorm_embedding")
        for i in range(layers):
            here, there = f"text.{side}.layers.{i}", f"{language}.{side}.layers.{i}"
            found += [
                *dense(f"{here}.attention.qkv", *(f"{there}.self_attn.{name}_proj" for name in "qkv")),
                *dense(f"{here}.attention.out", f"{there}.self_attn.out_proj"),
                *dense(f"{here}.norm_attention", f"{there}.self_attn_layer_norm"),
                *dense(f"{here}.ff.up", f"{there}.fc1"),
                *dense(f"{here}.ff.down", f"{there}.fc2"),
                *dense(f"{here}.norm_ff", f"{there}.final_layer_norm"),
            ]
            if side == "decoder":
                found += [
                    *dense(f"{here}.cross.query", f"{there}.encoder_attn.q_proj"),
                    *dense(f"{here}.cross.key_value", *(f"{there}.encoder_attn.{name}_proj" for name in "kv")),
                    *dense(f"{here}.cross.out", f"{there}.encoder_attn.out_proj"),
                    *dense(f"{here}.norm_cross", f"{there}.encoder_attn_layer_norm"),
                ]
    return found
