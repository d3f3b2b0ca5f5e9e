"""Runs in real processes that are killed at random moments end as those that were not (promise 3).

20 kills, or as many as ``OPENPALI_KILLS`` says: ``make soak`` takes 200.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

from tiny_runs import assert_same_run

from openpali.train.checkpoint import checkpoints
from openpali.train.recipe import load_recipe

RECIPE = """
name = "tiny/killed"
objective = "siglip"
batch = 4
workers = 1
precision = "fp32"
save_minutes = 0.001
ema = 0.9
[model]
preset = "pico"
tokenizer = "nano-vocabulary"
bias = -1.4
[optimizer]
lr = 1e-3
warmup = 80
[[phases]]
samples = 160
size = 48
mixture = [{ source = "nano/single", task = "contrastive" }]
[[phases]]
samples = 160
size = 72
mixture = [{ source = "nano/word", task = "contrastive" }, { source = "nano/single", task = "contrastive" }]
"""


def test_kill_9_at_random_moments(make_trainer, tmp_path) -> None:
    kills = int(os.environ.get("OPENPALI_KILLS", "20"))
    seed = random.randrange(2**32)  # another one each time: what fails once is worth finding
    recipe = tmp_path / "killed.toml"
    recipe.write_text(RECIPE)
    script = Path(__file__).with_name("kill_runs.py")
    command = [sys.executable, str(script), str(recipe), str(tmp_path), str(kills), str(seed)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    counts = json.loads(done.stdout)
    assert sum(counts[moment] for moment in ("any", "writing", "written")) == kills
    assert counts["unfinished"], f"no kill met a checkpoint that was being written: {counts}"
    loaded = load_recipe(recipe, ["workers=0", "save_minutes=60"])
    make_trainer(loaded, "whole").train()
    runs = sorted(tmp_path.glob("run-*"))
    assert runs
    for run in runs:
        assert_same_run(run, tmp_path / "whole")
        assert not list((run / "checkpoints").glob(".writing-*"))
        assert len(checkpoints(run)) <= loaded.keep
