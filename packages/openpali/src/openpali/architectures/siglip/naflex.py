"""SigLIP 2 NaFlex, whose images keep their proportions: what transformers' `Siglip2Model` describes otherwise.

Names of tensors are those of SigLIP; patches are embedded by a linear layer instead of a convolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

from openpali.architectures.facts import Facts
from openpali.model.vit import ViTConfig
from openpali.text.tokenizer import Tokenizer

MODEL, VISION = "siglip2", "siglip2_vision_model"
"""Model types of both towers, and of the image encoder alone."""
_PATCHES = 256  # transformers' default


def read_image_size(config: Mapping[str, Any], patch: int, where: str) -> int:
    """Side in pixels of a square image with a patch for each position embedding."""
    patches = config.get("num_patches", _PATCHES)
    side = isqrt(patches)
    if side**2 != patches:
        raise ValueError(f"{where} has num_patches = {patches}: only position embeddings of a square can be read")
    return side * patch


def describe_positions(config: ViTConfig) -> dict[str, Any]:
    """The position embeddings of a ViT, in a configuration of transformers."""
    rows, columns = config.grid
    if rows != columns:
        raise ValueError(
            f"transformers' SigLIP 2 has a square of position embeddings, and this ViT {rows} x {columns}"
        )
    return {"num_patches": rows * columns}


def describe_tokenizer(tokenizer: Tokenizer, facts: Facts, length: int) -> dict[str, Any]:
    """Gemma's tokenizer for texts of SigLIP 2, in lower case unless they stay as they are: padded on the right, by
    transformers too."""
    padding = tokenizer.eos_id if facts.padding == "eos" else tokenizer.pad_id
    ids = padding, tokenizer.eos_id, tokenizer.bos_id, tokenizer.unk_id
    names = "pad_token", "eos_token", "bos_token", "unk_token"
    return {
        "tokenizer_class": "GemmaTokenizer" if facts.normalisation == "as is" else "Siglip2Tokenizer",
        "add_bos_token": False,
        "add_eos_token": True,
        "padding_side": "right",
        "model_max_length": length,
        "text_normalisation": facts.normalisation,
        **dict(zip(names, tokenizer.pieces(ids), strict=True)),
    }
