"""PaLI-3 at full size on this machine: save, load, read one picture and answer, in bf16 and in int8.

    python benchmarks/full_size.py --json full_size.json

Weights are random (nobody has published trained ones), so the answers are noise; times, bytes and memory are those
of the real model. Each measurement is a process of its own, whose peak memory is the system's reading (VmHWM, pages
of the mapped file included). The peer of a time is the bound of this machine: the FLOPs that must be done at the
rate of a large matrix product, or the bytes of decoder weights that each token must read at the rate of memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from _report import Result, cost, machine, read_bandwidth, report
from openpali.bundle import build, open_bundle, write_bundle, write_int8
from openpali.data.images import Preprocess
from openpali.model.pali import Pali
from openpali.model.sizes import PRESETS, count_parameters, flops_per_image
from openpali.train.machine import matmul_peak

PROMPT, NEW = 16, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="pali3-5b", choices=PRESETS)
    parser.add_argument(
        "--sides", type=int, nargs="+", default=[224, 812, 1064], help="pixels; multiples of a patch"
    )
    parser.add_argument("--folder", type=Path, help="where the models go, 17 GB; by default a temporary folder")
    parser.add_argument("--json", type=Path, dest="file")
    parser.add_argument("--answer", nargs=2, metavar=("MODEL", "SIDE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer:
        print(json.dumps(answer(Path(options.answer[0]), int(options.answer[1]))))
        return
    facts = machine()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        report(measure(options, Path(folder)), facts, options.file)


def measure(options: argparse.Namespace, folder: Path) -> list[Result]:
    """Build both models, then ask each at each resolution."""
    preset = PRESETS[options.preset]
    began = time.perf_counter()
    write_random(options.preset, folder / "bf16")
    print(f"built and saved in bf16: {time.perf_counter() - began:.0f} s")
    began = time.perf_counter()
    write_int8(open_bundle(folder / "bf16"), folder / "int8")
    print(f"made int8: {time.perf_counter() - began:.0f} s")
    parts = count_parameters(preset)
    print(
        f"{sum(parts.values()) / 1e9:.2f}B parameters: {', '.join(f'{k} {v / 1e9:.2f}B' for k, v in parts.items())}"
    )
    flops, bandwidth = matmul_peak(torch.device("cpu"), torch.bfloat16), read_bandwidth()
    results = []
    for kind in ("bf16", "int8"):
        files = sum(file.stat().st_size for file in (folder / kind).glob("*.safetensors"))
        per_token = (parts["decoder"] + parts["head"]) * (2 if kind == "bf16" else 1)
        for side in options.sides:
            command = [sys.executable, __file__, "--answer", str(folder / kind), str(side)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{kind} at {side} px failed:\n{done.stderr}")
            seen: dict[str, Any] = json.loads(done.stdout)
            name = f"{kind}, {side} px"
            bound = flops_per_image(preset, (side, side), prompt=PROMPT) / flops
            results += [
                cost(f"{name}: load", seen["load"], files / bandwidth, "reading the file", "s"),
                cost(f"{name}: picture and prompt", seen["encode"], bound, "FLOPs at matmul peak", "s"),
                cost(f"{name}: each token", seen["token"], per_token / bandwidth, "reading the decoder", "s"),
                cost(f"{name}: peak memory", seen["peak"] / 1e9, files / 1e9, "size of the file", "GB"),
            ]
    return results


def write_random(preset: str, folder: Path) -> None:
    """A model of random weights, in bf16."""
    config = PRESETS[preset].pali
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in build(config).state_dict().items()}
    torch.manual_seed(0)
    noise = torch.randn(2**24).to(torch.bfloat16)
    weights = {}
    for name, shape in shapes.items():
        count, scale = shape.numel(), (shape[-1] if len(shape) > 1 else 1) ** -0.5
        weights[name] = (noise.repeat(-(-count // noise.numel()))[:count] * scale).view(shape)
    size = Preprocess(*config.vision.image_size)
    write_bundle(folder, weights, config, preprocess=size, tokenizer=None, facts={"run": "random"})


def answer(folder: Path, side: int) -> dict[str, float]:
    """Load, read one picture of ``side`` pixels, write :data:`NEW` tokens: seconds of each, bytes at the peak."""
    began = time.perf_counter()
    model = open_bundle(folder).model(torch.bfloat16)
    assert isinstance(model, Pali)
    load = time.perf_counter() - began
    patch = model.config.vision.patch_size
    model.vit.set_grid((side // patch, side // patch))
    picture = torch.randint(0, 256, (1, 1, side, side, 3), dtype=torch.uint8)
    prompt = torch.randint(2, model.config.text.vocab_size, (1, PROMPT))
    marks, ids = [time.perf_counter()], torch.zeros(1, 1, dtype=torch.long)
    with torch.inference_mode():
        cache = model.start(model.encode(picture, prompt), NEW)
        for _ in range(NEW):
            marks.append(time.perf_counter())
            ids = model.step(ids, cache).argmax(-1)
    marks.append(time.perf_counter())
    encode, token = marks[1] - marks[0], statistics.median(b - a for a, b in pairwise(marks[1:]))
    peak = int(
        next(s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("VmHWM")).split()[1]
    )
    return {"load": load, "encode": encode, "token": token, "peak": 1024 * peak}


if __name__ == "__main__":
    main()
