"""Checkpoints in the formats of other libraries, with random weights, and stand-ins for their vocabularies."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    Gemma2Config,
    GemmaConfig,
    MT5Config,
    MT5ForConditionalGeneration,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    Siglip2Config,
    Siglip2ImageProcessor,
    Siglip2Model,
    Siglip2VisionModel,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipTokenizer,
    SiglipVisionModel,
    T5Gemma2Config,
    T5Gemma2ForConditionalGeneration,
    UMT5Config,
    UMT5ForConditionalGeneration,
)
from transformers import T5Config as HFT5Config
from transformers import T5ForConditionalGeneration as HFT5

from openpali.text.tokenizer import spm, train_proto

sys.path.insert(0, str(Path(__file__).parents[2] / "packages" / "openpali" / "tests" / "model"))

from oracles import randomise

VISION = dict(
    hidden_size=24, num_hidden_layers=2, intermediate_size=40, num_attention_heads=3, image_size=14, patch_size=4
)
TEXT = dict(
    hidden_size=16,
    num_hidden_layers=3,
    intermediate_size=32,
    num_attention_heads=2,
    vocab_size=30,
    max_position_embeddings=5,
    projection_size=24,
    bos_token_id=0,
    eos_token_id=1,
    pad_token_id=1,
)
LENGTH = 24  # of the texts of published SigLIPs in small
T5 = dict(
    d_model=32,
    d_kv=6,
    d_ff=40,
    num_layers=2,
    num_decoder_layers=3,
    num_heads=4,
    relative_attention_max_distance=20,
    decoder_start_token_id=0,
    dropout_rate=0.0,
)
FAMILIES = ("t5_v11", "flan_t5", "mt5", "umt5", "ul2", "t5_tied")


def siglip(folder: Path, *, seed: int = 0, vocab_size: int = 30, length: int = 5, **vision: object) -> SiglipModel:
    """Both towers, of different shapes; 14 pixels are 3 patches of 4 and a remainder."""
    text = {**TEXT, "vocab_size": vocab_size, "max_position_embeddings": length}
    shape = SiglipConfig(text_config=text, vision_config={**VISION, **vision})
    model = SiglipModel(shape).eval()
    randomise(model, seed)
    model.save_pretrained(folder)
    return model


def siglip_files(folder: Path) -> Path:
    """A SigLIP as it is published, with its tokenizer and image processor."""
    siglip(folder, vocab_size=600, length=LENGTH, image_size=12)
    (folder / "spiece.model").write_bytes(small_proto())
    SiglipTokenizer(str(folder / "spiece.model"), model_max_length=LENGTH).save_pretrained(folder)
    SiglipImageProcessor(size={"height": 12, "width": 12}).save_pretrained(folder)
    return folder


def siglip2_files(folder: Path) -> Path:
    """A SigLIP 2 of fixed resolution, whose vocabulary is Gemma's, as it is published."""
    siglip(folder, vocab_size=340, length=LENGTH, image_size=12)
    _gemma_tokenizer(folder)
    SiglipImageProcessor(size={"height": 12, "width": 12}, resample=2).save_pretrained(folder)
    return folder


NAFLEX = {key: value for key, value in VISION.items() if key != "image_size"} | {"num_patches": 16}


def naflex(folder: Path, *, seed: int = 0, vocab_size: int = 30, length: int = 5, **vision: object) -> Siglip2Model:
    """Both towers of a SigLIP 2 NaFlex: 4 x 4 position embeddings, patches of 4 pixels."""
    text = {**TEXT, "vocab_size": vocab_size, "max_position_embeddings": length}
    model = Siglip2Model(Siglip2Config(text_config=text, vision_config={**NAFLEX, **vision})).eval()
    randomise(model, seed)
    model.save_pretrained(folder)
    return model


def naflex_encoder(folder: Path, *, head: bool = True, seed: int = 0) -> Siglip2VisionModel:
    shape = Siglip2Config(vision_config={**NAFLEX, "vision_use_head": head}).vision_config
    model = Siglip2VisionModel(shape).eval()
    randomise(model, seed)
    model.save_pretrained(folder)
    return model


def naflex_files(folder: Path, tokens: int = 20) -> Path:
    """A SigLIP 2 NaFlex as it is published, with its tokenizer and image processor."""
    _gemma_tokenizer(folder)
    naflex(folder, vocab_size=340, length=LENGTH)
    Siglip2ImageProcessor(patch_size=4, max_num_patches=tokens).save_pretrained(folder)
    return folder


def _gemma_tokenizer(folder: Path) -> None:
    """The tokenizer of a SigLIP 2."""
    (folder / "tokenizer.model").write_bytes(gemma_proto())
    described = {"tokenizer_class": "GemmaTokenizer", "add_bos_token": False, "add_eos_token": True}
    described |= {"padding_side": "right", "model_max_length": LENGTH}
    described |= {f"{name}_token": f"<{name}>" for name in ("pad", "eos", "bos", "unk")}
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)


def image_encoder(folder: Path, *, head: bool = True, seed: int = 0, **vision: object) -> SiglipVisionModel:
    shape = SiglipConfig(vision_config={**VISION, **vision, "vision_use_head": head}).vision_config
    model = SiglipVisionModel(shape).eval()
    randomise(model, seed)
    model.save_pretrained(folder)
    return model


def t5(
    folder: Path,
    kind: str = "t5_v11",
    *,
    vocab_size: int = 50,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    shard: str = "1GB",
    **shape: object,
) -> nn.Module:
    """One of :data:`FAMILIES`, as transformers writes it; untied ones with a separate head."""
    common = {**T5, "vocab_size": vocab_size, **shape}
    tied = kind == "t5_tied"
    if kind == "mt5":
        model: nn.Module = MT5ForConditionalGeneration(MT5Config(**common, tie_word_embeddings=False))
    elif kind == "umt5":
        model = UMT5ForConditionalGeneration(UMT5Config(**common, tie_word_embeddings=False))
    else:
        activation = "gated-silu" if kind == "ul2" else "gated-gelu"
        model = HFT5(HFT5Config(**common, feed_forward_proj=activation, tie_word_embeddings=tied))
    if not tied:  # recent versions tie it whatever the configuration says
        model.lm_head = nn.Linear(common["d_model"], vocab_size, bias=False)
    randomise(model.eval(), seed)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    return model


GEMMA = dict(
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
)
GEMMA2 = dict(query_pre_attn_scalar=5, sliding_window=7, attn_logit_softcapping=3.0, final_logit_softcapping=30.0)


def paligemma(
    folder: Path, kind: str = "gemma2", *, vocab_size: int = 300, seed: int = 0, shard: str = "1GB", **shape: object
) -> PaliGemmaForConditionalGeneration:
    """A PaliGemma on "gemma" or "gemma2", with images of 2 x 2 patches and a window that texts outgrow."""
    text = (
        GemmaConfig(vocab_size=vocab_size, **{**GEMMA, **shape})
        if kind == "gemma"
        else Gemma2Config(vocab_size=vocab_size, **{**GEMMA, **GEMMA2, **shape})
    )
    config = PaliGemmaConfig(
        vision_config=SiglipConfig(
            vision_config={**VISION, "image_size": 8, "vision_use_head": False}
        ).vision_config,
        text_config=text,
        projection_dim=text.hidden_size,
        hidden_size=text.hidden_size,
        image_token_index=vocab_size - 1,
    )
    model = PaliGemmaForConditionalGeneration(config).eval()
    randomise(model, seed)
    model.save_pretrained(folder, max_shard_size=shard)
    return model


def t5gemma2(
    folder: Path, *, vocab_size: int = 300, image_token: int = 299, shard: str = "1GB", **shape: object
) -> T5Gemma2ForConditionalGeneration:
    """A T5Gemma 2 with images of 4 x 4 patches, averaged 2 x 2, and a window that prompts and texts outgrow."""
    near = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
    text = {
        **GEMMA,
        "vocab_size": vocab_size,
        "num_hidden_layers": 4,
        "query_pre_attn_scalar": 5,
        "sliding_window": 6,
        "layer_types": near,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 500.0},
        },
        **shape,
    }
    places = {"image_token_index": image_token, "boi_token_index": 6, "eoi_token_index": 7}
    vision = SiglipConfig(vision_config={**VISION, "image_size": 16, "vision_use_head": False}).vision_config
    config = T5Gemma2Config(
        encoder={"text_config": text, "vision_config": vision.to_dict(), "mm_tokens_per_image": 4, **places},
        decoder={**text, "num_hidden_layers": 3, "layer_types": near[:3]},
        image_token_index=image_token,
    )
    model = T5Gemma2ForConditionalGeneration(config).eval()
    randomise(model)
    model.get_input_embeddings().weight.data *= 0.1  # or a token is followed by itself
    for name, weight in model.named_parameters():
        if name.endswith("norm.weight") and "vision" not in name:
            weight.data -= 1  # Gemma's norms multiply by 1 + weight
    model.save_pretrained(folder, max_shard_size=shard)
    return model


# ---- vocabularies

TEXTS = ["a red circle on the table", "two blue stars, and (one) dog", "der Hund läuft", "What is it? 12 + 30"] * 8


def small_proto(vocab_size: int = 150) -> bytes:
    """A SentencePiece model without specials, as T5's file is."""
    return train_proto(TEXTS, vocab_size + 356)  # bytes and numbers beside them


def gemma_proto(*more: str) -> bytes:
    """A SentencePiece model with Gemma's special tokens at its ids, its end of line, ``more`` pieces, and its way
    with spaces."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=model,
        model_type="bpe",
        vocab_size=340,
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_digits=True,
        user_defined_symbols=["<mask>", "\n", *more],
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        minloglevel=2,
    )
    return model.getvalue()


def t5_proto() -> bytes:
    """A model of T5's size: 32,000 pieces, a few real ones at their ids, fillers at all others."""
    known = {
        3: "▁", 4: "X", 5: ".", 6: ",", 7: "s", 8: "▁the", 9: "▁a", 10: ":", 12: "▁to", 19: "▁is", 296: "▁world",
        1566: "▁English", 2968: "▁German", 8774: "▁Hello", 13959: "▁translate",
    }  # fmt: skip
    model = spm.ModelProto()
    kinds = spm.ModelProto.SentencePiece
    for piece, kind in (("<pad>", kinds.CONTROL), ("</s>", kinds.CONTROL), ("<unk>", kinds.UNKNOWN)):
        model.pieces.add(piece=piece, score=0.0, type=kind)
    for i in range(3, 32_000):
        model.pieces.add(piece=known.get(i, f"▁§{i}"), score=-2.0 - i / 10_000, type=kinds.NORMAL)
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    trainer.model_type, trainer.vocab_size = spm.TrainerSpec.UNIGRAM, 32_000
    trainer.pad_id, trainer.eos_id, trainer.unk_id, trainer.bos_id = 0, 1, 2, -1
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = normalizer.remove_extra_whitespaces = normalizer.escape_whitespaces = True
    return bytes(model.SerializeToString())


# ---- big_vision's layout, written from its documentation and not from our rules


def big_vision(model: SiglipModel | SiglipVisionModel) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` of today, blocks one by one."""
    theirs = {k: v.detach().clone() for k, v in model.state_dict().items()}
    alone = isinstance(model, SiglipVisionModel)
    if alone:
        theirs = {f"vision_model.{k}": v for k, v in theirs.items()}
    tree: dict[str, Tensor] = {}
    image, heads = "params/" if alone else "params/img/", VISION["num_attention_heads"]
    patches = theirs["vision_model.embeddings.patch_embedding.weight"]
    tree[f"{image}embedding/kernel"] = patches.permute(2, 3, 1, 0)
    tree[f"{image}embedding/bias"] = theirs["vision_model.embeddings.patch_embedding.bias"]
    tree[f"{image}pos_embedding"] = theirs["vision_model.embeddings.position_embedding.weight"][None]
    _blocks(tree, f"{image}Transformer", theirs, "vision_model.encoder.layers", VISION["num_hidden_layers"], heads)
    _pair(tree, f"{image}Transformer/encoder_norm", theirs, "vision_model.post_layernorm", "scale")
    if "vision_model.head.probe" in theirs:
        there, here = "vision_model.head", f"{image}MAPHead_0"
        tree[f"{here}/probe"] = theirs[f"{there}.probe"]
        fused = [theirs[f"{there}.attention.in_proj_{kind}"].chunk(3) for kind in ("weight", "bias")]
        for i, name in enumerate(("query", "key", "value")):
            _projection(tree, f"{here}/MultiHeadDotProductAttention_0/{name}", fused[0][i], fused[1][i], heads)
        _out(tree, f"{here}/MultiHeadDotProductAttention_0/out", theirs, f"{there}.attention.out_proj", heads)
        _pair(tree, f"{here}/LayerNorm_0", theirs, f"{there}.layernorm", "scale")
        _mlp(tree, f"{here}/MlpBlock_0", theirs, f"{there}.mlp")
    if not alone:
        tree["params/txt/Embed_0/embedding"] = theirs["text_model.embeddings.token_embedding.weight"]
        tree["params/txt/pos_embedding"] = theirs["text_model.embeddings.position_embedding.weight"][None]
        layers, text_heads = TEXT["num_hidden_layers"], TEXT["num_attention_heads"]
        _blocks(tree, "params/txt/Encoder_0", theirs, "text_model.encoder.layers", layers, text_heads)
        _pair(tree, "params/txt/Encoder_0/encoder_norm", theirs, "text_model.final_layer_norm", "scale")
        _pair(tree, "params/txt/head", theirs, "text_model.head", "kernel")
        tree["params/t"], tree["params/b"] = theirs["logit_scale"], theirs["logit_bias"]
    return {key: value.contiguous().numpy() for key, value in tree.items()}


def _blocks(tree: dict, here: str, theirs: dict, there: str, depth: int, heads: int) -> None:
    for i in range(depth):
        block, layer = f"{here}/encoderblock_{i}", f"{there}.{i}"
        _pair(tree, f"{block}/LayerNorm_0", theirs, f"{layer}.layer_norm1", "scale")
        _pair(tree, f"{block}/LayerNorm_1", theirs, f"{layer}.layer_norm2", "scale")
        attention = f"{block}/MultiHeadDotProductAttention_0"
        for name in ("query", "key", "value"):
            weight, bias = (theirs[f"{layer}.self_attn.{name[0]}_proj.{kind}"] for kind in ("weight", "bias"))
            _projection(tree, f"{attention}/{name}", weight, bias, heads)
        _out(tree, f"{attention}/out", theirs, f"{layer}.self_attn.out_proj", heads)
        _mlp(tree, f"{block}/MlpBlock_0", theirs, f"{layer}.mlp")


def _projection(tree: dict, here: str, weight: Tensor, bias: Tensor, heads: int) -> None:
    width = weight.shape[1]
    tree[f"{here}/kernel"] = weight.T.reshape(width, heads, -1)
    tree[f"{here}/bias"] = bias.reshape(heads, -1)


def _out(tree: dict, here: str, theirs: dict, there: str, heads: int) -> None:
    tree[f"{here}/kernel"] = theirs[f"{there}.weight"].T.reshape(heads, -1, theirs[f"{there}.weight"].shape[0])
    tree[f"{here}/bias"] = theirs[f"{there}.bias"]


def _mlp(tree: dict, here: str, theirs: dict, there: str) -> None:
    _pair(tree, f"{here}/Dense_0", theirs, f"{there}.fc1", "kernel")
    _pair(tree, f"{here}/Dense_1", theirs, f"{there}.fc2", "kernel")


def _pair(tree: dict, here: str, theirs: dict, there: str, name: str) -> None:
    weight = theirs[f"{there}.weight"]
    tree[f"{here}/{name}"] = weight.T if name == "kernel" else weight
    tree[f"{here}/bias"] = theirs[f"{there}.bias"]
