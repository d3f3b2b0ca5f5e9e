"""Steps on batches of many lengths do not make the process grow.

``python test_memory.py STEPS...`` prints the resident bytes after each of these numbers of steps.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import numpy as np
import pytest
import torch

from _report import resident
from openpali.data.pipeline.encode import SequenceEncoder
from openpali.distributed import ALONE
from openpali.train.load import parse_recipe
from openpali.train.machine import resolve_precision
from openpali.train.step import TrainStep
from openpali_lab.plan.planner import build_without_data

RECIPE = {
    "name": "varied",
    "objective": "sequence",
    "batch": 2,
    "model": {"preset": "pico", "tokenizer": "nano-vocabulary", "frozen": ["vit", "project"]},
    "optimizer": {"lr": 1e-3},
    "phases": [{"samples": 2, "size": 72, "mixture": [{"source": "nano/text", "task": "denoise"}]}],
}


def main(counts: list[int]) -> None:
    torch.set_num_threads(1)
    recipe, ranks = parse_recipe(RECIPE), ALONE
    dtype = resolve_precision("auto", ranks.device)
    train_step = TrainStep(recipe, build_without_data(recipe, recipe.phases[0], "cpu"), ranks, dtype)
    assert isinstance(train_step.objective.encoder, SequenceEncoder)
    rng = np.random.default_rng(0)
    for step in range(1, max(counts) + 1):
        rows = [
            {key: np.full(rng.integers(1, 65), 5, np.int64) for key in ("prompt", "target")}
            for _ in range(recipe.batch)
        ]
        train_step.run([train_step.objective.encoder.collate(rows)], weight=1.0)
        if step in counts:
            print(resident("VmRSS"), flush=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_constant_over_steps_of_all_lengths() -> None:
    done = subprocess.run([sys.executable, __file__, "300", "1000"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    early, late = map(int, done.stdout.split())
    assert late <= 1.03 * early


if __name__ == "__main__":
    main([int(count) for count in sys.argv[1:]])
