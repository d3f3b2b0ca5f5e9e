"""What `openpali plan` predicts against measurements: memory and FLOPs of training steps of twelve shapes.

    python benchmarks/planner.py --json planner.json                      # what a step holds: a minute
    python benchmarks/planner.py --kept --json planner-kept.json          # what the trainer holds on a CPU
    python benchmarks/planner.py --precision bf16 --json planner-bf16.json
    python benchmarks/planner.py --recipe mine.toml batch=1       # a recipe of your own, with random weights

Each shape runs two training steps on real tensors, with one thread per rank, as the planner does on fake ones.
Memory is the peak of rank 0 in the second step, minus the memory before the model was built; FLOPs are torch's
count. "Ours" is predicted, the peer measured, and the ratio is measured / predicted. The script makes glibc return
freed blocks to the OS at once; with `--kept` it keeps them, as in the trainer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # once, before ranks are forked

from _ranks import fork_ranks, wait_for
from _report import Result, cost, machine, release, report, resident
from openpali.distributed import Ranks, join_ranks
from openpali.train.load import load_recipe, parse_recipe
from openpali.train.machine import kept_memory, resolve_precision
from openpali.train.objectives.base import Lengths
from openpali.train.parallel import is_sharded
from openpali.train.recipe import Recipe
from openpali.train.step import TrainStep
from openpali_lab.plan.flops import count_flops
from openpali_lab.plan.planner import Device, build_without_data, rehearse, rows_of

HERE = Device("cpu", 1e12, 1e12, 1e12, 1e11, 2, 1e10, 1e9, cuda=False)  # two ranks per node
SHAPES: dict[str, tuple[int, dict[str, Any]]] = {  # name -> ranks, changes to a sequence recipe of the nano preset
    "siglip": (1, {"objective": "siglip", "batch": 32}),
    "classes": (1, {"objective": "classify", "batch": 64}),
    "sequence": (1, {"batch": 12}),
    "frozen, larger images": (1, {"batch": 8, "size": 180, "frozen": ["vit"]}),
    "micro-batches, Muon and QK-clip": (1, {"batch": 24, "micro": 3, "optimizer": "muon", "qk_clip": 3.0}),
    "checkpointing": (1, {"batch": 32, "checkpointing": "full"}),
    "selective, and Adafactor": (1, {"batch": 16, "checkpointing": "selective", "optimizer": "adafactor"}),
    "text, and an average": (1, {"batch": 16, "task": "denoise", "frozen": ["vit", "project"], "ema": 0.9}),
    "an adapter": (1, {"batch": 16, "lora": {"rank": 8}}),
    "whole on 2": (2, {"batch": 16}),
    "cut over 3": (3, {"batch": 48, "shard": "full"}),
    "cut over 2 of 4, and an average": (4, {"batch": 64, "shard": "hybrid", "ema": 0.9}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kept", action="store_true", help="glibc keeps freed memory, as in the trainer")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES, metavar="NAME", help="only these")
    parser.add_argument("--recipe", nargs="+", metavar="FILE", help="a recipe, and KEY=VALUE to change; one rank")
    parser.add_argument("--json", type=Path, dest="file")
    parser.add_argument("--measure", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure_all(options)
        return
    precision = ", ".join({recipe.precision for _, recipe in shapes(options).values()})
    facts = machine() | {"precision": precision, "memory": "kept" if options.kept else "given back"}
    report(compare(options), facts, options.file)


def compare(options: argparse.Namespace) -> Iterator[Result]:
    """Predictions and measurements of each shape, which a process of its own writes to a pipe."""
    wanted, environment = shapes(options), {**os.environ, "OMP_NUM_THREADS": "1"}
    if not options.kept:  # by default glibc keeps blocks smaller than the largest one that was freed
        environment["MALLOC_MMAP_THRESHOLD_"] = "65536"
    end, pipe = os.pipe()
    command = [sys.executable, __file__, *sys.argv[1:], "--measure", f"/dev/fd/{pipe}"]
    with subprocess.Popen(command, env=environment, pass_fds=[pipe]) as process, os.fdopen(end) as lines:
        os.close(pipe)
        for line in map(json.loads, lines):
            world, recipe = wanted[line["name"]]
            costs = rehearse(recipe, recipe.phases[0], HERE, world)
            yield cost(f"{line['name']}: memory", costs.peak / 1e6, line["peak"] / 1e6, "measured", "MB")
            yield cost(f"{line['name']}: FLOPs", costs.flops / 1e9, line["flops"] / 1e9, "measured", "GFLOP")
    if process.returncode:
        sys.exit(f"the measurement failed with code {process.returncode}")


def measure_all(options: argparse.Namespace) -> None:
    """Write the memory and FLOPs of each shape to a file, one line each."""
    wanted = shapes(options)
    for world in sorted({ranks for ranks, _ in wanted.values()}):
        recipes = {name: recipe for name, (ranks, recipe) in wanted.items() if ranks == world}
        wait_for(fork_ranks(world, HERE.node, partial(measure_rank, recipes, options)))


def shapes(options: argparse.Namespace) -> dict[str, tuple[int, Recipe]]:
    """What is measured: by name, on how many ranks which recipe."""
    if options.recipe:
        file, *changes = options.recipe
        recipe = load_recipe(Path(file), changes)
        return {recipe.name: (1, recipe)}
    return {name: (SHAPES[name][0], recipe_of(name, options.precision)) for name in options.shapes}


def measure_rank(recipes: dict[str, Recipe], options: argparse.Namespace, rank: int) -> None:
    torch.set_num_threads(1)
    with join_ranks() as ranks:
        measure(recipe_of("siglip", options.precision), ranks, options.kept)  # so that imports are not counted
        for name, recipe in recipes.items():
            measured = {"name": name, **measure(recipe, ranks, options.kept)}
            if rank == 0:
                with options.measure.open("a") as lines:
                    lines.write(json.dumps(measured) + "\n")


def measure(recipe: Recipe, ranks: Ranks, kept: bool) -> dict[str, float]:
    """Peak memory of the second step in bytes, and its FLOPs."""
    phase = recipe.phases[0]
    release()
    before = resident("VmRSS")
    dtype = resolve_precision(recipe.precision, ranks.device)
    elsewhere = is_sharded(recipe.parallel, ranks) and ranks.rank > 0  # rank 0 sends the weights
    train_step = TrainStep(recipe, build_without_data(recipe, phase, "meta" if elsewhere else "cpu"), ranks, dtype)
    rows = rows_of(recipe, ranks.world)

    def step() -> None:
        batch = train_step.objective.example_batch(phase, rows, Lengths())
        train_step.run([batch] * recipe.micro, weight=1.0)

    with kept_memory(ranks.device) if kept else nullcontext():
        flops = count_flops(step)
        if not kept:
            release()
        step()
        return {"peak": resident("VmHWM") - before, "flops": flops}


def recipe_of(name: str, precision: str = "fp32") -> Recipe:
    """The recipe of a shape."""
    wanted = dict(SHAPES[name][1])
    task = wanted.pop("task", "caption")
    objective = wanted.pop("objective", "sequence")
    lora = wanted.pop("lora", None)
    return parse_recipe(
        {
            "name": name,
            "objective": objective,
            "batch": wanted["batch"],
            "micro": wanted.pop("micro", 1),
            "precision": precision,
            "ema": wanted.pop("ema", 0.0),
            **({"max_prompt": 32, "max_target": 32} if objective == "sequence" else {}),
            "model": {
                "preset": wanted.pop("preset", "nano"),
                "tokenizer": "nowhere",
                "frozen": wanted.pop("frozen", []),
                **({"init": {"": "nowhere"}, "lora": lora} if lora else {}),
            },
            "optimizer": {
                "lr": 1e-3,
                "name": wanted.pop("optimizer", "adamw"),
                "qk_clip": wanted.pop("qk_clip", 0.0),
            },
            "parallel": {
                "shard": wanted.pop("shard", "none"),
                "checkpointing": wanted.pop("checkpointing", "none"),
            },
            "phases": [
                {
                    "samples": wanted.pop("batch"),
                    "size": wanted.pop("size", 72),
                    "mixture": [{"source": "nano/single", "task": task}],
                }
            ],
        }
    )


if __name__ == "__main__":
    main()
