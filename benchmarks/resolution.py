"""Images at high resolution on CPUs: image encoder and encoder, ours against transformers, before the first token

    pip install -e 'packages/openpali-lab[bench]'
    python benchmarks/resolution.py --json resolution.json
    python benchmarks/resolution.py --preset pico --sides 72 96     # a quick check that it works

One image and a prompt of 16 tokens, base and large shapes, random weights. Ours is `--dtype bf16`, and `--engine
torch-int8`. The peer is transformers' SigLIP, whose projected patches precede the prompt as ``inputs_embeds`` of
its T5, in bf16. Both take turns in one process. "matmuls" is the rate of all FLOPs of ours in bf16, attention
included, beside that of a large matmul.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from _report import Result, cost, interleaved, machine, need, rate, report
from openpali.architectures.pali import PRESETS, PaliModel
from openpali.model.init import init_weights
from openpali.model.int8 import compute_in_int8
from openpali_lab.plan.flops import matmul_peak
from openpali_lab.sizes import flops_of_stages
from train import PROMPT, VisionT5

PEER = "transformers bf16"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", nargs="+", default=["base", "large"], choices=PRESETS)
    parser.add_argument("--sides", type=int, nargs="+", default=[448, 812], help="pixels")
    parser.add_argument("--rounds", type=int, default=1, help="timed calls of each side, after one that is not")
    parser.add_argument("--json", type=Path, dest="file")
    options = parser.parse_args()
    need("transformers", "transformers")
    facts = machine("transformers")
    peak = matmul_peak(torch.device("cpu"), torch.bfloat16)
    pairs = [(name, side) for name in options.preset for side in options.sides]
    results = (row for name, side in pairs for row in _measure(name, side, options.rounds, peak))
    report(results, facts, options.file)


@torch.inference_mode()
def _measure(name: str, side: int, rounds: int, peak: float) -> Iterator[Result]:
    preset = PRESETS[name]
    patch = preset.vision.patch_size
    count = round(side / patch)
    preset = replace(
        preset,
        vision=replace(preset.vision, grid=(count, count)),
        text=replace(preset.text, vocab_size=1024, decoder_layers=1),  # neither is measured
    )
    ours = init_weights(PaliModel(preset)).bfloat16().eval()
    theirs = VisionT5(preset).bfloat16().eval()
    int8 = deepcopy(ours)
    compute_in_int8(int8)
    images = torch.randint(0, 256, (1, 1, count * patch, count * patch, 3), dtype=torch.uint8)
    pixels = images[:, 0].permute(0, 3, 1, 2).bfloat16() / 127.5 - 1
    prompt = torch.randint(2, preset.text.vocab_size, (1, PROMPT))
    visual = ours.embed_images(images)
    embedded = torch.cat([visual, theirs.t5.get_input_embeddings()(prompt)], 1)
    stages = {
        "vision": {
            "bf16": partial(ours.embed_images, images),
            "int8": partial(int8.embed_images, images),
            PEER: partial(theirs.tokens, pixels),
        },
        "encoder": {
            "bf16": partial(ours.encode_tokens, visual, prompt),
            "int8": partial(int8.encode_tokens, visual, prompt),
            PEER: partial(theirs.t5.encoder, inputs_embeds=embedded),
        },
    }
    bounds = flops_of_stages(preset, (count * patch, count * patch), prompt=PROMPT)
    for stage, title in (("vision", "ViT"), ("encoder", "encoder")):
        seconds = interleaved(stages[stage], rounds)
        what = f"{name}, {count * patch} px: {title}"
        yield cost(what, seconds["bf16"], seconds[PEER], PEER, "s")
        yield cost(f"{what}, torch-int8", seconds["int8"], seconds[PEER], PEER, "s")
        yield rate(f"{what}, matmuls", bounds[stage] / seconds["bf16"] / 1e9, peak / 1e9, "matmul peak", "GFLOP/s")


if __name__ == "__main__":
    main()
