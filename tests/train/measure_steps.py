"""What a rank really holds and computes for `test_plan.py`: ``python measure_steps.py FILE NODE``.

Each shape is carried out twice on real tensors, as the planner does on imagined ones, NODE ranks to a node. The
second step's highest resident memory, above what rank 0 had before, and its FLOPs are written to FILE, a line each.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
from functools import partial
from pathlib import Path

import torch
import torch._dynamo  # what each rank would import for itself
from forks import fork_ranks
from plan_shapes import SHAPES, recipe_of

from openpali.train.machine import count_flops, resolve_precision
from openpali.train.plan import Lengths, make_batch, prepare, rows_of, run_step
from openpali.train.ranks import Ranks, join_ranks


def resident(line: str) -> int:
    """Bytes of ``VmRSS`` (now) or ``VmHWM`` (at most, since the last reset)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(text for text in status.splitlines() if text.startswith(line)).split()[1])


def release() -> None:
    """Give freed memory back, and forget the peak."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def measure(name: str, ranks: Ranks) -> dict[str, float]:
    """Highest memory of a shape's second step, in bytes, and its FLOPs."""
    recipe = recipe_of(name)
    phase = recipe.phases[0]
    release()
    before = resident("VmRSS")
    dtype = resolve_precision(recipe.precision, ranks.device)
    learner = prepare(recipe, phase, ranks, dtype)
    rows = rows_of(recipe, ranks.world)

    def step() -> None:
        batch = make_batch(recipe, phase, learner.objective, rows, Lengths())
        run_step(recipe, learner, ranks, dtype, [batch] * recipe.micro)

    flops = count_flops(step)
    release()
    step()
    return {"peak": resident("VmHWM") - before, "flops": flops}


def measure_all(names: list[str], file: Path, rank: int) -> None:
    torch.set_num_threads(1)
    with join_ranks() as ranks:
        measure("siglip", ranks)  # what a first step imports and keeps is not counted
        for name in names:
            measured = {"name": name, **measure(name, ranks)}
            if rank == 0:
                with file.open("a") as lines:
                    lines.write(json.dumps(measured) + "\n")


def main(file: Path, node: int) -> None:
    for world in sorted({ranks for ranks, _ in SHAPES.values()}):
        names = [name for name, (ranks, _) in SHAPES.items() if ranks == world]
        children = set(fork_ranks(world, node, partial(measure_all, names, file)))
        while children:
            child, status = os.wait()
            children.remove(child)
            if status:
                for other in children:  # they would wait for it
                    os.kill(other, signal.SIGKILL)
                sys.exit(f"a rank of {world} failed")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
