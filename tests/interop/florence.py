"""Florence-2 as transformers writes it: tiny, with random weights and a vocabulary of bytes and a few merges."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers import (
    BartTokenizer,
    CLIPImageProcessor,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
)

from openpali_lab.florence2.architecture import ADDED, IMAGE_TOKEN

sys.path.insert(0, str(Path(__file__).parents[2] / "packages" / "openpali" / "tests" / "model"))

from oracles import randomise

SIDE = 64
VISION = {
    "embed_dim": [8, 8, 16, 16],
    "num_heads": [1, 2, 2, 4],
    "num_groups": [2, 1, 2, 4],
    "depths": [1, 1, 2, 1],
    "window_size": 3,  # 16, 8, 4 and 2 tokens per side are no multiples of it
    "max_position_embeddings": 5,
    "max_temporal_embeddings": 3,
}
TEXT = {
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 3,
    "decoder_attention_heads": 3,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 128,
    "dropout": 0.0,
}
BASE = {
    "d_model": 768,
    "encoder_layers": 6,
    "decoder_layers": 6,
    "encoder_attention_heads": 12,
    "decoder_attention_heads": 12,
    "encoder_ffn_dim": 3072,
    "decoder_ffn_dim": 3072,
    "vocab_size": 51_289,
}
"""Of the published model of .23B parameters, whose image encoder has transformers' default shape."""
LARGE = {
    **BASE,
    "d_model": 1024,
    "encoder_layers": 12,
    "decoder_layers": 12,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "decoder_ffn_dim": 4096,
}
LARGE_VISION = {
    "embed_dim": [256, 512, 1024, 2048],
    "num_heads": [8, 16, 32, 64],
    "num_groups": [8, 16, 32, 64],
}
NORMALISED = {"do_center_crop": False, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
WORDS = ("the", "cat", "dog", "image", "Locate", "what", "in")


def tokenizer(extra: Iterable[str] = ()) -> BartTokenizer:
    """BART's special tokens at its ids, all bytes, and merges that make some words, with a space before them too.

    ``extra``: special tokens behind these.
    """
    from tokenizers.pre_tokenizers import ByteLevel

    vocab = {piece: i for i, piece in enumerate(("<s>", "<pad>", "</s>", "<unk>"))}
    for character in sorted(ByteLevel.alphabet()):
        vocab[character] = len(vocab)
    merges = []
    for word in WORDS:
        for start in ("", "Ġ"):
            parts = [*start, *word]
            while len(parts) > 1:
                merges.append((parts[0], parts[1]))
                parts = ["".join(parts[:2]), *parts[2:]]
                vocab.setdefault(parts[0], len(vocab))
    made = BartTokenizer(vocab=vocab, merges=list(dict.fromkeys(merges)))
    made.add_tokens([*extra], special_tokens=True)
    return made


def configuration(text: dict[str, Any], vision: dict[str, Any], **more: Any) -> Florence2Config:
    return Florence2Config(
        vision_config={**vision, "projection_dim": text["d_model"]},
        text_config={"model_type": "bart", **text},
        **more,
    )


def write(
    folder: Path, *, side: int = SIDE, vision: dict[str, Any] = VISION, text: dict[str, Any] = TEXT
) -> Florence2ForConditionalGeneration:
    """A checkpoint as it is published: with its processor, for images of ``side`` pixels."""
    tokenizer([*ADDED, IMAGE_TOKEN]).save_pretrained(folder)
    words = BartTokenizer.from_pretrained(folder, extra_special_tokens={"image_token": IMAGE_TOKEN})
    rows = (len(words) + 63) // 64 * 64
    config = configuration({"vocab_size": rows, **text}, vision, image_token_id=words.image_token_id)
    model = Florence2ForConditionalGeneration(config).eval()
    randomise(model)
    for name, weight in model.named_parameters():
        if "layernorm_embedding" in name:  # or a token is followed by itself
            weight.data = 0.2 * weight.data + name.endswith("weight")
    model.save_pretrained(folder)
    images = CLIPImageProcessor(size={"height": side, "width": side}, **NORMALISED)
    images.image_seq_length = 1 + (side // 32) ** 2
    Florence2Processor(images, words, post_processor_config={}).save_pretrained(folder)
    return model
