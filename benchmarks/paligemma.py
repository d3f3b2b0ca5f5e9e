"""PaliGemma at its true size beside transformers: memory, the first token, and tokens per second at batch 1.

    python benchmarks/paligemma.py --json paligemma.json

Weights are random; times, bytes and memory equal the real model's. Ours is asked in bf16 and in int8, from folders
that are deleted at the end (10 GB for a 3B), transformers in bf16. Each runs in a process of its own, whose peak
memory the system reports (VmHWM, with pages of the mapped file). "reading the language model" is the rate that the
memory bandwidth allows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from _report import Result, cost, machine, rate, read_bandwidth, report, resident
from full_size import write_random
from openpali.architectures.paligemma import PRESETS as PALIGEMMA
from openpali.architectures.paligemma import PaliGemmaConfig, PaliGemmaModel
from openpali.weights.format import config_from_json, open_model
from openpali.weights.quantize import write_int4, write_int8

PROMPT = 16
TARGETS = {"bf16": 7e9, "int8": 4e9}  # bytes at the peak of a 3B
KINDS = (*TARGETS, "int4")
PEER = "transformers, bf16"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="paligemma2-3b", choices=PALIGEMMA)
    parser.add_argument(
        "--config", type=Path, help="a JSON file with other shapes, as in a model folder's config.json"
    )
    parser.add_argument("--tokens", type=int, default=16, help="tokens to write")
    parser.add_argument("--folder", type=Path, help="where the models go; by default a temporary folder")
    parser.add_argument("--json", type=Path, dest="file")
    parser.add_argument("--kinds", nargs="+", default=list(TARGETS), choices=KINDS)
    parser.add_argument("--ask", nargs=2, metavar=("WHO", "MODEL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        who, folder = options.ask
        ask = ask_ours if who == "ours" else ask_theirs
        print(json.dumps(ask(Path(folder), options.tokens)))
        return
    config = PALIGEMMA[options.preset]
    if options.config:
        config = config_from_json(PaliGemmaConfig, json.loads(options.config.read_text()))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        report(compare(options, config, Path(folder)), machine("transformers"), options.file)


def compare(options: argparse.Namespace, config: PaliGemmaConfig, folder: Path) -> Iterator[Result]:
    """Build the models, and ask transformers and ours."""
    write_random(config, folder / "bf16")
    in_bf16 = sum(file.stat().st_size for file in (folder / "bf16").glob("*.safetensors"))
    theirs = run("theirs", folder / "bf16", options.tokens)
    bandwidth, speeds = read_bandwidth(), {}
    for kind in options.kinds:
        if kind == "int8":
            write_int8(open_model(folder / "bf16"), folder / "int8")
        elif kind == "int4":
            write_int4(open_model(folder / "bf16"), folder / "int4")
        ours = run("ours", folder / kind, options.tokens)
        stored = open_model(folder / kind).stored()
        sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in stored.items()}
        yield cost(f"{kind}: file", sum(sizes.values()) / 1e9, in_bf16 / 1e9, "bf16", "GB")
        yield cost(f"{kind}: peak memory", ours["peak"] / 1e9, theirs["peak"] / 1e9, PEER, "GB")
        if kind in TARGETS:
            yield cost(f"{kind}: peak memory", ours["peak"] / 1e9, TARGETS[kind] / 1e9, "target for a 3B", "GB")
        yield cost(f"{kind}: image, prompt and first token", ours["first"], theirs["first"], PEER, "s")
        speeds[kind] = 1 / ours["token"]
        yield rate(f"{kind}: tokens", speeds[kind], 1 / theirs["token"], PEER, "tokens/s")
        read = sum(size for name, size in sizes.items() if name.startswith("text."))  # the embedding is the head
        yield rate(f"{kind}: tokens", speeds[kind], bandwidth / read, "reading the language model", "tokens/s")
        if kind == "int4" and "int8" in speeds:
            yield rate("int4: tokens", speeds[kind], speeds["int8"], "int8 (target 1.5)", "tokens/s")


def run(who: str, folder: Path, tokens: int) -> dict[str, float]:
    """Seconds to the first token and for each further one, and peak bytes, in a separate process."""
    command = [sys.executable, __file__, "--ask", who, str(folder), "--tokens", str(tokens)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{who} with {folder.name} failed:\n{done.stderr}")
    seen: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return seen


@torch.inference_mode()
def ask_ours(folder: Path, tokens: int) -> dict[str, float]:
    """Our model, whose tensors stay mapped."""
    model = open_model(folder).model(torch.bfloat16)
    assert isinstance(model, PaliGemmaModel)
    height, width = model.config.vision.image_size
    image = torch.randint(0, 256, (1, 1, height, width, 3), dtype=torch.uint8)
    prompt = torch.randint(200, model.config.text.vocab_size, (1, PROMPT))
    ids = torch.full((1, 1), model.first)
    cache = None

    def step() -> None:
        nonlocal cache, ids
        if cache is None:
            cache = model.start(model.encode(image, prompt), tokens)
        ids = model.step(ids, cache).argmax(-1)

    return timed(step, tokens)


@torch.inference_mode()
def ask_theirs(folder: Path, tokens: int) -> dict[str, float]:
    """transformers' class of the same shapes, with weights drawn in memory."""
    from transformers import AutoModelForImageTextToText

    from _gemmas import their_config

    config = open_model(folder).config
    assert isinstance(config, PaliGemmaConfig)
    model = AutoModelForImageTextToText.from_config(their_config(config), dtype=torch.bfloat16).eval()
    visual = config.vision.grid[0] * config.vision.grid[1]
    pixels = torch.rand(1, 3, *config.vision.image_size, dtype=torch.bfloat16) * 2 - 1
    row = torch.randint(200, min(config.image_token, config.text.vocab_size), (1, PROMPT + 2))
    ids: Tensor = torch.cat([torch.full((1, visual), config.image_token), row], dim=1)
    past = None

    def step() -> None:
        nonlocal past, ids
        first = {"pixel_values": pixels, "token_type_ids": torch.zeros_like(ids)} if past is None else {}
        out = model(input_ids=ids, past_key_values=past, use_cache=True, logits_to_keep=1, **first)
        past, ids = out.past_key_values, out.logits[:, -1:].argmax(-1)

    return timed(step, tokens)


def timed(step: Callable[[], None], tokens: int) -> dict[str, float]:
    """Seconds of the first step, the median of the others, and the peak of this process."""
    marks = [time.perf_counter()]
    for _ in range(tokens):
        step()
        marks.append(time.perf_counter())
    first, *others = (b - a for a, b in pairwise(marks))
    return {"first": first, "token": statistics.median(others), "peak": resident("VmHWM")}


if __name__ == "__main__":
    main()
