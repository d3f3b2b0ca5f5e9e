"""What a rank really holds and computes for `test_plan.py`: ``python measure_steps.py FILE SHAPE...``.

Each shape is carried out twice on real tensors, as the planner does on imagined ones; the second step's highest
resident memory above what the process had before, and its FLOPs, are written to FILE as JSON lines.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from pathlib import Path

import torch
from plan_shapes import recipe_of

from openpali.train.machine import count_flops, resolve_precision
from openpali.train.plan import Lengths, make_batch, prepare, rows_of, run_step
from openpali.train.ranks import join_ranks


def resident(line: str) -> int:
    """Bytes of ``VmRSS`` (now) or ``VmHWM`` (at most, since the last reset)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(text for text in status.splitlines() if text.startswith(line)).split()[1])


def release() -> None:
    """Give freed memory back, and forget the peak."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def main(file: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    with join_ranks() as ranks:
        for name in ["warm-up", *names]:
            recipe = recipe_of("siglip" if name == "warm-up" else name)
            phase = recipe.phases[0]
            release()
            before = resident("VmRSS")
            dtype = resolve_precision(recipe.precision, ranks.device)
            learner = prepare(recipe, phase, ranks, dtype)
            rows = rows_of(recipe, ranks.world)
            flops = 0.0
            for step in range(2):
                batch = make_batch(recipe, phase, learner.objective, rows, Lengths())
                batches = [batch] * recipe.micro

                def run(batches=batches, learner=learner, recipe=recipe, dtype=dtype) -> None:
                    run_step(recipe, learner, ranks, dtype, batches)

                if step == 0:
                    flops = count_flops(run)
                else:
                    release()
                    run()
            peak = resident("VmHWM") - before
            if name != "warm-up":
                with file.open("a") as lines:
                    lines.write(json.dumps({"name": name, "peak": peak, "flops": flops}) + "\n")
            del learner, batch, batches, run


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
