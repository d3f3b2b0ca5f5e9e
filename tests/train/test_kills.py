"""Runs in real processes, stopped and then killed at random moments, equal uninterrupted ones (promise 3).

4 kills, or ``OPENPALI_KILLS``; ``make soak`` uses 200.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tiny_runs import assert_same_run, write_captions

from openpali.train.checkpoint import checkpoints
from openpali.train.load import load_recipe

PAIRS = """
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
samples = 80
size = 48
mixture = [{ source = "nano/single", task = "contrastive" }]
[[phases]]
samples = 80
size = 72
mixture = [{ source = "nano/word", task = "contrastive" }, { source = "nano/single", task = "contrastive" }]
"""

# text and images in micro-batches, also from a small file with many epochs
MIXED = """
name = "tiny/killed-mixture"
objective = "sequence"
batch = 4
micro = 2
workers = 1
precision = "fp32"
save_minutes = 0.001
max_prompt = 200
max_target = 200
[model]
preset = "pico"
tokenizer = "nano-vocabulary"
[optimizer]
lr = 1e-3
warmup = 40
[[phases]]
samples = 160
size = 48
mixture = [
    { source = "nano/single", task = "caption" },
    { source = "nano/text", task = "denoise" },
    { source = "SMALL", task = "caption" },
]
"""


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """A temporary folder on a disk: in memory, as ``tmp_path`` may be, checkpoints are written too fast."""
    with TemporaryDirectory(dir=Path(__file__).parent, prefix=".tmp-") as name:
        yield Path(name)


def test_sigterm_and_kill_9_at_random_moments(make_trainer, tmp_path, disk_path) -> None:
    kills = int(os.environ.get("OPENPALI_KILLS", "4"))
    seed = random.randrange(2**32)  # a new one each time, to find rare failures
    recipes = [disk_path / "pairs.toml", disk_path / "mixed.toml"]
    recipes[0].write_text(PAIRS)
    recipes[1].write_text(
        MIXED.replace("SMALL", str(write_captions(disk_path, [f"red {number}" for number in range(5)], 48)))
    )
    script = Path(__file__).with_name("kill_runs.py")
    command = [sys.executable, str(script), str(disk_path), str(kills), str(seed), *map(str, recipes)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    counts = json.loads(done.stdout)
    assert sum(counts.get(moment, 0) for moment in ("any", "writing", "written")) == kills
    assert counts.get("unfinished"), f"no kill met a checkpoint that was being written: {counts}"
    for recipe in recipes:
        stopped = json.loads(recipe.with_suffix(".stopped").read_text())
        assert stopped["status"] == 1
        samples = 4 * int(stopped["checkpoint"].removeprefix("step-"))
        assert 0 < samples < 160
        *_, last = stopped["errors"].splitlines()
        assert last == f"openpali: stopped at sample {samples}; the same command goes on"
        assert "Traceback" not in stopped["errors"]
        assert not any(stopped["workers"].values()), "data workers live on"
        assert stopped["workers"] or sys.platform != "linux"
        loaded = load_recipe(recipe, ["workers=0", "save_minutes=60"])
        whole = f"whole-{recipe.stem}"
        make_trainer(loaded, whole).train()
        runs = sorted(disk_path.glob(f"{recipe.stem}-*"))
        assert runs
        for run in runs:
            assert_same_run(run, tmp_path / whole)
            assert not list((run / "checkpoints").glob(".writing-*"))
            assert len(checkpoints(run)) <= (loaded.keep or 2)
