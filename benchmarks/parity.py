"""How far our modules are from transformers' on the same weights, per family, at real sizes.

    python benchmarks/parity.py            # B/16 and base: a minute and 3 GB
    python benchmarks/parity.py --tiny     # to see that it works

Weights are random, since no hub is asked: transformers writes each checkpoint, `openpali.interop` reads it, and the
same inputs go through both in float32. Prints the largest difference in any layer, absolute and relative to the
largest number of that layer.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from openpali.interop.parity import Parity, compare_images, compare_texts
from openpali.interop.siglip import read_siglip
from openpali.interop.t5 import read_t5

TINY: dict[str, Any] = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 12, "num_heads": 4, "vocab_size": 512}
BASE: dict[str, Any] = {"d_model": 768, "d_kv": 64, "d_ff": 2048, "num_layers": 12, "num_heads": 12}
TINY_VISION = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 12, "num_attention_heads": 4}


def siglip(tiny: bool) -> nn.Module:
    vision = TINY_VISION if tiny else {}
    text = {**vision, "vocab_size": 512} if tiny else {}
    return transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision))


def language(kind: str, tiny: bool) -> nn.Module:
    shape = TINY if tiny else {**BASE, "vocab_size": 32_128}
    config, model = {
        "mT5": (transformers.MT5Config, transformers.MT5ForConditionalGeneration),
        "umT5": (transformers.UMT5Config, transformers.UMT5ForConditionalGeneration),
    }.get(kind, (transformers.T5Config, transformers.T5ForConditionalGeneration))
    activation = "gated-silu" if kind == "UL2" else "gated-gelu"
    built: nn.Module = model(config(**shape, feed_forward_proj=activation, tie_word_embeddings=False))
    head = nn.Linear(shape["d_model"], shape["vocab_size"], bias=False)
    built.lm_head = head  # recent versions tie it whatever the configuration says
    return built


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    tiny = parser.parse_args().tiny
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__}, float32, {'tiny' if tiny else 'base'}"
    )
    print("| family | compared | worst layer | max difference | relative |")
    print("|---|---|---|---|---|")
    for kind in ("SigLIP", "T5 v1.1, Flan-T5", "mT5", "umT5", "UL2"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if kind == "SigLIP":
                siglip(tiny).save_pretrained(folder)
                parities = compare_images(read_siglip(folder), folder)
            else:
                language(kind, tiny).save_pretrained(folder)
                parities = compare_texts(read_t5(folder), folder)
        worst: Parity = max(parities, key=lambda parity: parity.relative)
        largest = max(parity.absolute for parity in parities)
        print(f"| {kind} | {len(parities)} | {worst.name} | {largest:.1e} | {worst.relative:.1e} |", flush=True)


if __name__ == "__main__":
    main()
