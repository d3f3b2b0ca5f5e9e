"""Kills runs again and again for `test_kills.py`: ``python kill_runs.py FOLDER KILLS SEED RECIPE...``.

Each attempt is a fork of this process, which has done all imports, with data workers of its own. It is ended by
``kill -9``: at a random moment, while a checkpoint is written, or as soon as one is complete. When a run reaches
its end, the next begins; the last one may finish. Recipes take turns, each with its part of the kills; runs are in
``FOLDER/NAME-0`` and so on, for the recipe NAME.toml. Prints the number of kills of each kind, as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import torch
import torch._dynamo  # once, before runs are forked

import openpali.train.monitor as progress_module
import openpali.train.trainer as trainer_module
from openpali.data.sources.registry import open_source
from openpali.distributed import join_ranks
from openpali.train.recipe import load_recipe
from openpali.train.trainer import Trainer
from openpali.weights.family import open_tokenizer


def attempt(recipe: Path, run: Path) -> int:
    """Start or resume the run in a new process; returns its id."""
    if child := os.fork():
        return child
    try:
        os.setsid()
        loaded = load_recipe(recipe)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        with join_ranks() as ranks:
            Trainer(loaded, run, ranks, open_tokenizer(loaded.model.tokenizer)).train()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def wait_for(moment: str, run: Path, dice: random.Random) -> None:
    """Until the moment has come to kill."""
    folder = run / "checkpoints"
    end = time.monotonic() + 20
    before = set(folder.glob("step-*"))
    if moment == "any":
        time.sleep(dice.uniform(0, 1.0))
    while moment == "writing" and not any(folder.glob(".writing-*/*")) and time.monotonic() < end:
        time.sleep(0.001)
    while moment == "written" and not set(folder.glob("step-*")) - before and time.monotonic() < end:
        time.sleep(0.001)


def wait_for_end(child: int) -> int:
    """The exit status of a run, once it is over.

    Its data worker is ended too: one forked in the moment of the kill takes its new parent for the old one and
    would wait for ever, with our output in its hands, which whoever reads that would wait for.
    """
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return status


def kill(recipe: Path, folder: Path, kills: int, dice: random.Random) -> Counter[str]:
    """Kill runs of a recipe so many times; returns how many of each kind there were."""
    counts: Counter[str] = Counter()
    runs = killed = 0
    while killed < kills:
        run = folder / f"{recipe.stem}-{runs}"
        child = attempt(recipe, run)
        moment = dice.choice(["any", "any", "writing", "written"])
        wait_for(moment, run, dice)
        os.kill(child, signal.SIGKILL)
        status = wait_for_end(child)
        if os.WIFSIGNALED(status):
            killed += 1
            counts[moment] += 1
            counts["unfinished"] += any((run / "checkpoints").glob(".writing-*"))
        elif status:
            sys.exit("a run failed, see above")
        else:
            runs += 1
    if wait_for_end(attempt(recipe, folder / f"{recipe.stem}-{runs}")):
        sys.exit("the last run failed, see above")
    return counts


def main(folder: Path, kills: int, seed: int, recipes: list[Path]) -> None:
    dice = random.Random(seed)
    counts: Counter[str] = Counter()
    for number, recipe in enumerate(recipes):
        part = kills * (number + 1) // len(recipes) - kills * number // len(recipes)
        counts += kill(recipe, folder, part, dice)
    print(json.dumps(counts))


if __name__ == "__main__":
    torch.set_num_threads(1)
    trainer_module.matmul_peak = lambda *_: 1e12
    progress_module._tensorboard = lambda *_: None
    open_source("nano/single", {})  # remembers its world
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), [Path(name) for name in sys.argv[4:]])
