"""Difference between our modules and transformers' on the same weights, per family, at real sizes.

    python benchmarks/parity.py                                  # B/16 and base: a minute and 3 GB
    python benchmarks/parity.py --size large                     # L/16 and large: 8 GB
    python benchmarks/parity.py --size xl --families SigLIP      # So400m/14: 8 GB; T5's XL needs 26 GB
    python benchmarks/parity.py --size giant --families SigLIP   # g-opt/16: 18 GB
    python benchmarks/parity.py --size 3b                        # PaliGemma, PaliGemma 2 as published: 16 GB each
    python benchmarks/parity.py --size 270m                      # T5Gemma 2 as published: 5 GB

transformers writes each checkpoint with random weights, `architectures` reads it, and both compute the same inputs
in float32. The difference is the largest in any layer, relative to the largest value of that layer; the target is
1e-5.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from _gemmas import their_config
from _report import Result, cost, machine, report
from openpali.architectures.halves.t5 import read_t5
from openpali.architectures.paligemma import PRESETS as PALIGEMMA
from openpali.architectures.paligemma import read_paligemma
from openpali.architectures.siglip.architecture import read_siglip
from openpali.architectures.t5gemma2.architecture import PRESETS as T5GEMMA2
from openpali.architectures.t5gemma2.architecture import read_t5gemma2
from openpali_lab.parity import (
    AGREEMENT,
    Deviation,
    compare_images,
    compare_paligemma,
    compare_t5gemma2,
    compare_texts,
)

ROUNDING = 2**-24  # of float32, relative
GEMMAS = {"PaliGemma": transformers.GemmaConfig, "PaliGemma 2": transformers.Gemma2Config}
FAMILIES = ("SigLIP", "T5 v1.1, Flan-T5", "mT5", "umT5", "UL2", *GEMMAS, "T5Gemma 2")
TOWERS: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 12, "num_attention_heads": 4},
    "base": {},
    "large": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
    "xl": {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16},
    "giant": {"hidden_size": 1536, "intermediate_size": 6144, "num_hidden_layers": 40, "num_attention_heads": 16},
}
TEXT_TOWERS = {
    **TOWERS,
    "tiny": {**TOWERS["tiny"], "vocab_size": 512},
    "giant": {**TOWERS["xl"], "projection_size": 1536},
}
LANGUAGE: dict[str, dict[str, Any]] = {
    "tiny": {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 12, "num_heads": 4, "vocab_size": 512},
    "base": {"d_model": 768, "d_kv": 64, "d_ff": 2048, "num_layers": 12, "num_heads": 12, "vocab_size": 32_128},
    "large": {"d_model": 1024, "d_kv": 64, "d_ff": 2816, "num_layers": 24, "num_heads": 16, "vocab_size": 32_128},
    "xl": {"d_model": 2048, "d_kv": 64, "d_ff": 5120, "num_layers": 24, "num_heads": 32, "vocab_size": 32_128},
}
GEMMA: dict[str, dict[str, Any]] = {  # beside the tower of the same size
    size: {
        "vocab_size": shape["vocab_size"],
        "hidden_size": shape["d_model"],
        "intermediate_size": 4 * shape["d_ff"],
        "num_hidden_layers": shape["num_layers"],
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 256,
    }
    for size, shape in LANGUAGE.items()
}


PUBLIC = {  # checkpoints
    ("PaliGemma", "3b"): "paligemma-3b",
    ("PaliGemma 2", "3b"): "paligemma2-3b",
    ("T5Gemma 2", "270m"): "t5gemma2-270m",
}


def siglip(size: str) -> nn.Module:
    vision = {**TOWERS[size], "patch_size": 14 if size == "xl" else 16}
    return transformers.SiglipModel(transformers.SiglipConfig(text_config=TEXT_TOWERS[size], vision_config=vision))


def paligemma(kind: str, size: str) -> nn.Module:
    if (kind, size) in PUBLIC:
        return transformers.PaliGemmaForConditionalGeneration(their_config(PALIGEMMA[PUBLIC[kind, size]]))
    text = GEMMAS[kind](**GEMMA[size])
    vision = {**TOWERS[size], "patch_size": 14, "image_size": 224, "vision_use_head": False}
    config = transformers.PaliGemmaConfig(
        vision_config=transformers.SiglipVisionConfig(**vision),
        text_config=text,
        projection_dim=text.hidden_size,
        image_token_index=text.vocab_size,
    )
    return transformers.PaliGemmaForConditionalGeneration(config)


def t5gemma2(size: str) -> nn.Module:
    model = transformers.T5Gemma2ForConditionalGeneration(t5gemma2_config(size))
    projector = model.get_encoder().multi_modal_projector
    nn.init.normal_(projector.mm_input_projection_weight, std=0.02)  # zeros in a new model
    return model


def t5gemma2_config(size: str) -> Any:
    """A small one has a window shorter than prompts and texts, and Gemma 3 4B's rotations."""
    if ("T5Gemma 2", size) in PUBLIC:
        return their_config(T5GEMMA2[PUBLIC["T5Gemma 2", size]])
    rope = {
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    }
    text = {**GEMMA[size], "sliding_window": 32, "rope_parameters": rope}
    vision = {**TOWERS[size], "patch_size": 14, "image_size": 224, "vision_use_head": False}
    places = {"boi_token_index": 5, "eoi_token_index": 6, "mm_tokens_per_image": 16}
    encoder = {"text_config": text, "vision_config": transformers.SiglipVisionConfig(**vision).to_dict(), **places}
    token = text["vocab_size"] - 1
    return transformers.T5Gemma2Config(encoder=encoder, decoder=text, image_token_index=token)


def language(kind: str, size: str) -> nn.Module:
    shape = LANGUAGE[size]
    config, model = {
        "mT5": (transformers.MT5Config, transformers.MT5ForConditionalGeneration),
        "umT5": (transformers.UMT5Config, transformers.UMT5ForConditionalGeneration),
    }.get(kind, (transformers.T5Config, transformers.T5ForConditionalGeneration))
    activation = "gated-silu" if kind == "UL2" else "gated-gelu"
    built: nn.Module = model(config(**shape, feed_forward_proj=activation, tie_word_embeddings=False))
    head = nn.Linear(shape["d_model"], shape["vocab_size"], bias=False)
    built.lm_head = head  # recent versions tie it regardless of the configuration
    return built


def exists(kind: str, size: str) -> bool:
    """Whether a family is compared at a size."""
    return (kind, size) in PUBLIC or size in (TOWERS if kind == "SigLIP" else LANGUAGE)


def compared(kind: str, size: str) -> list[Deviation]:
    """Differences of all layers. The checkpoint is deleted afterwards."""
    images = 1 if (kind, size) in PUBLIC else 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if kind == "SigLIP":
            siglip(size).save_pretrained(folder)
            return compare_images(read_siglip(folder), folder)
        if kind in GEMMAS:
            paligemma(kind, size).save_pretrained(folder)
            return compare_paligemma(read_paligemma(folder), folder, images=images)
        if kind == "T5Gemma 2":
            t5gemma2(size).save_pretrained(folder)
            return compare_t5gemma2(read_t5gemma2(folder), folder, images=images, length=64)
        language(kind, size).save_pretrained(folder)
        return compare_texts(read_t5(folder), folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = dict.fromkeys([*TOWERS, *(size for _, size in PUBLIC)])
    parser.add_argument("--size", choices=sizes, default="base")
    parser.add_argument(
        "--families", nargs="+", choices=FAMILIES, metavar="FAMILY", help="by default all of the size"
    )
    parser.add_argument("--json", type=Path, dest="file")
    options = parser.parse_args()
    known = [kind for kind in FAMILIES if exists(kind, options.size)]
    families = options.families or known
    if unknown := [kind for kind in families if kind not in known]:
        parser.error(f"--size {options.size} is not one of {', '.join(unknown)}: add --families {' '.join(known)}")
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    facts = machine("transformers")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, float32, {options.size}")
    results = (compare(kind, options.size) for kind in families)
    report(results, facts | {"size": options.size}, options.file)


def compare(kind: str, size: str) -> Result:
    """The largest relative difference beside the target."""
    found = compared(kind, size)
    worst = max(found, key=lambda parity: parity.relative)
    largest = max(parity.absolute for parity in found)
    print(f"{kind}: {worst.name} is worst of {len(found)}; at most {largest:.1e} in absolute terms", flush=True)
    name = f"{kind}, {size}: relative difference"
    return cost(name, max(worst.relative, ROUNDING), AGREEMENT, "target", "of the largest")


if __name__ == "__main__":
    main()
