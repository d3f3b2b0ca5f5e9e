"""PaLI-3 at full size on this machine: save, load, read one image and answer, in bf16, int8 and int4.

    python benchmarks/full_size.py --json full_size.json
    python benchmarks/full_size.py --sides 224 812 1064          # the paper's largest, too: 20 minutes
    python benchmarks/full_size.py --kinds openvino int8         # what the default leaves out: 5 minutes
    python benchmarks/full_size.py --kinds int4 openvino-int4    # the language model in int4
    python benchmarks/full_size.py --kinds int4 --group 32       # with a scale for 32 instead of 128 inputs

Weights are random (no trained ones are public); times, bytes and memory equal the real model's. Each measurement
runs in a separate process, whose peak memory the system reports (VmHWM, with pages of the mapped file). The peer
is the bound of this machine: the FLOPs at the rate of a large matmul, or the bytes that each token must read at
the memory bandwidth.

"bf16", "int8" and "int4" are torch with weights of that dtype (int4 as `openpali quantize --bits 4` writes it: ViT
and head are int8); "torch-int8" also rounds activations of images and prompts. "openvino", "openvino-int8" and
"openvino-int4" write the text with OpenVINO, which first needs "compile". "load" touches every page of the file,
first after it was dropped from the page cache. Pages of ViT and encoder are released once these have run
(`openpali.tensors.give_back`). Memory per token is the growth of the peak from one resolution to the next.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch

from _report import Result, cost, machine, rate, read_bandwidth, report, resident
from openpali.architectures.facts import Facts
from openpali.architectures.pali import PRESETS, PaliModel, PaliModelConfig
from openpali.architectures.paligemma import PaliGemmaConfig
from openpali.architectures.registry import architecture_of, build
from openpali.data.media.images import Preprocess
from openpali.infer.engines.openvino import OpenVinoPali
from openpali.model.int8 import compute_in_int8
from openpali.tensors import give_back
from openpali.weights.format import open_model
from openpali.weights.quantize import GROUP, write_int4, write_int8
from openpali.weights.write import write_model
from openpali_lab.plan.flops import matmul_peak
from openpali_lab.sizes import count_parameters, flops_of_stages, parameters_per_token

PROMPT, NEW = 16, 16
STAGES = {"vision": "ViT", "encoder": "encoder", "memory": "keys and values"}
KINDS = {
    "bf16": ("bf16", 2),
    "openvino": ("bf16", 2),
    "int8": ("int8", 1),
    "torch-int8": ("int8", 1),
    "openvino-int8": ("int8", 1),
    "int4": ("int4", 0.5),
    "openvino-int4": ("int4", 0.5),
}
"""What is measured, the folder that it reads, and bytes of a weight."""
TARGETS = {"bf16": 12e9, "int8": 7e9, "int4": 5.5e9}  # bytes at the peak of pali3-5b on a machine of 24 GB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="pali3-5b", choices=PRESETS)
    parser.add_argument("--sides", type=int, nargs="+", default=[224, 812], help="pixels; multiples of a patch")
    parser.add_argument("--kinds", nargs="+", default=["bf16", "torch-int8", "openvino-int8"], choices=KINDS)
    parser.add_argument("--group", type=int, default=GROUP, help="inputs that share a scale in int4")
    parser.add_argument("--folder", type=Path, help="where the models go, 17 GB; by default a temporary folder")
    parser.add_argument("--json", type=Path, dest="file")
    parser.add_argument("--answer", nargs=3, metavar=("MODEL", "SIDE", "KIND"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer:
        print(json.dumps(answer(Path(options.answer[0]), int(options.answer[1]), options.answer[2])))
        return
    facts = machine() | {"preset": options.preset}
    if any("int4" in kind for kind in options.kinds):
        facts |= {"group": options.group}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        report(measure(options, Path(folder)), facts, options.file)


def measure(options: argparse.Namespace, folder: Path) -> Iterator[Result]:
    """Build the models, then ask each at each resolution."""
    preset = PRESETS[options.preset]
    began = time.perf_counter()
    write_random(preset, folder / "bf16")
    print(f"built and saved in bf16: {time.perf_counter() - began:.0f} s", flush=True)
    for form, write in (("int8", write_int8), ("int4", partial(write_int4, group=options.group))):
        if any(KINDS[kind][0] == form for kind in options.kinds):
            began = time.perf_counter()
            write(open_model(folder / "bf16"), folder / form)
            print(f"made {form}: {time.perf_counter() - began:.0f} s", flush=True)
    parts = count_parameters(preset)
    sizes = ", ".join(f"{part} {size / 1e9:.2f}B" for part, size in parts.items())
    print(f"{sum(parts.values()) / 1e9:.2f}B parameters: {sizes}", flush=True)
    flops, bandwidth = matmul_peak(torch.device("cpu"), torch.bfloat16), read_bandwidth()
    language = preset.text
    held = 4 * language.decoder_layers * language.heads * language.d_head  # bytes of a token's keys and values
    with torch.device("meta"):
        model = PaliModel(preset)
        read, head = parameters_per_token(model), model.text.head_weight.numel()
    tokens = partial(architecture_of(preset).visual_tokens, preset)
    seen_files: set[str] = set()
    for kind in options.kinds:
        stored, width = KINDS[kind]
        if stored == "int4":
            width += 2 / options.group  # scales in bf16
        files = sum(file.stat().st_size for file in (folder / stored).glob("*.safetensors"))
        if stored not in seen_files:
            seen_files.add(stored)
            yield cost(f"{stored}: file", files / 1e9, width * sum(parts.values()) / 1e9, "parameters", "GB")
        peaks = {}
        for side in options.sides:
            seen = ask(folder / stored, side, kind)
            peaks[side] = seen["peak"]
            name, bounds = f"{kind}, {side} px", flops_of_stages(preset, (side, side), prompt=PROMPT)
            for each in ("cold", "warm"):
                yield cost(f"{name}: load, {each}", seen[each], files / bandwidth, "reading it from memory", "s")
            if "compile" in seen:
                yield cost(f"{name}: compile", seen["compile"], files / bandwidth, "reading it from memory", "s")
            stages = STAGES
            if kind.startswith("openvino"):  # whose encoder ends with keys and values
                stages = {"vision": "ViT", "encoder": "encoder, keys and values"}
                bounds["encoder"] += bounds.pop("memory")
                seen["encoder"] += seen.pop("memory")
            for stage, title in stages.items():
                yield cost(f"{name}: {title}", seen[stage], bounds[stage] / flops, "FLOPs at matmul peak", "s")
            first = sum(seen[stage] for stage in stages) + seen["token"]
            yield cost(f"{name}: first token", first, sum(bounds.values()) / flops, "FLOPs at matmul peak", "s")
            weights = width * read + (max(1, width) - width) * head  # of int4, the head is int8
            read_per_token = weights + held * (tokens((side, side)) + PROMPT)
            bound = "reading the decoder, keys and values"
            yield rate(f"{name}: tokens", 1 / seen["token"], bandwidth / read_per_token, bound, "tokens/s")
            yield cost(f"{name}: peak memory", peaks[side] / 1e9, files / 1e9, "size of the file", "GB")
            if options.preset == "pali3-5b":
                yield cost(f"{name}: peak memory", peaks[side] / 1e9, TARGETS[stored] / 1e9, "target", "GB")
        for small, large in pairwise(options.sides):
            more = tokens((large, large)) - tokens((small, small))
            grown = max(peaks[large] - peaks[small], 1) / more  # the system counts in pages
            name = f"{kind}, {small} to {large} px: memory per token"
            yield cost(name, grown / 1e6, held / 1e6, "keys and values", "MB")


def ask(folder: Path, side: int, kind: str) -> dict[str, float]:
    """:func:`answer` in a separate process."""
    command = [sys.executable, __file__, "--answer", str(folder), str(side), kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{kind} at {side} px failed:\n{done.stderr}")
    seen: dict[str, float] = json.loads(done.stdout)
    return seen


def write_random(config: PaliModelConfig | PaliGemmaConfig, folder: Path) -> None:
    """Write a model of random weights, in bf16."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in build(config).state_dict().items()}
    torch.manual_seed(0)
    noise = torch.randn(2**24).to(torch.bfloat16)
    weights = {}
    for name, shape in shapes.items():
        count, scale = shape.numel(), (shape[-1] if len(shape) > 1 else 1) ** -0.5
        weights[name] = (noise.repeat(-(-count // noise.numel()))[:count] * scale).view(shape)
    size = Preprocess(*config.vision.image_size)
    write_model(folder, weights, config, preprocess=size, tokenizer=None, facts=Facts(run="random"))


def answer(folder: Path, side: int, kind: str) -> dict[str, float]:
    """Load, encode one image of ``side`` pixels, write :data:`NEW` tokens: seconds of each, peak in bytes."""
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    seconds = {}
    for name in ("cold", "warm"):
        model = None  # otherwise both would be mapped at once
        began = time.perf_counter()
        model = load(folder)
        seconds[name] = time.perf_counter() - began
    assert model is not None
    patch = model.config.vision.patch_size
    model.vit.set_grid((side // patch, side // patch))
    if kind in ("torch-int8", "openvino-int8", "openvino-int4"):
        compute_in_int8(model)
    engine: PaliModel | OpenVinoPali = model
    if kind.startswith("openvino"):
        began = time.perf_counter()
        engine = OpenVinoPali(model)
        seconds["compile"] = time.perf_counter() - began
    image = torch.randint(0, 256, (1, 1, side, side, 3), dtype=torch.uint8)
    prompt = torch.randint(2, model.config.text.vocab_size, (1, PROMPT))
    marks, ids = [time.perf_counter()], torch.zeros(1, 1, dtype=torch.long)
    with torch.inference_mode():
        visual = engine.encode_images(image).tokens
        give_back(model.vit.state_dict().values())
        marks.append(time.perf_counter())
        memory = engine.encode_tokens(visual, prompt)
        give_back(model.text.encoder.state_dict().values())
        marks.append(time.perf_counter())
        cache = engine.start(memory, NEW)
        for _ in range(NEW):
            marks.append(time.perf_counter())
            ids = engine.step(ids, cache).argmax(-1)
    marks.append(time.perf_counter())
    spans = [b - a for a, b in pairwise(marks)]
    seconds |= dict(zip(STAGES, spans, strict=False)) | {"token": statistics.median(spans[len(STAGES) :])}
    return {**seconds, "peak": resident("VmHWM")}


def load(folder: Path) -> PaliModel:
    """The model in bf16, with every page of its file touched."""
    model = open_model(folder).model(torch.bfloat16)
    assert isinstance(model, PaliModel)
    for tensor in model.state_dict().values():
        tensor.flatten()[:: 4096 // tensor.element_size()].sum()
    return model


if __name__ == "__main__":
    main()
