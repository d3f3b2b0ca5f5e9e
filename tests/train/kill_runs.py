"""Kills runs again and again for `test_kills.py`: ``python kill_runs.py FOLDER KILLS SEED RECIPE...``.

Each attempt is a fork of this process, which has done all imports, with data workers of its own. It is ended by
``kill -9``: at a random moment, while a checkpoint is written (the first kill of each recipe, so that a few kills
have it, too), or as soon as one is complete. When a run reaches its end, the next begins; the last one may finish.
Recipes take turns, each with its part of the kills; runs are in ``FOLDER/NAME-0`` and so on, for the recipe
NAME.toml. The first attempt of each recipe is `openpali train`, and it gets a SIGTERM: how it ends is in
``FOLDER/NAME.stopped``. Prints the number of kills of each kind, as JSON.
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
from collections.abc import Callable
from pathlib import Path

import torch
import torch._dynamo  # once, before runs are forked

from openpali.cli.main import main as openpali
from openpali.data.sources.registry import open_source
from openpali.distributed import join_ranks
from openpali.train.checkpoint import checkpoints
from openpali.train.load import load_recipe
from openpali.train.trainer import Trainer
from openpali.weights.bundle import open_tokenizer


def attempt(body: Callable[[], None]) -> int:
    """Call ``body`` in a new process; returns its id. One that raises SystemExit ends like a command."""
    if child := os.fork():
        return child
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        body()
    except SystemExit:
        raise
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def train(recipe: Path, run: Path) -> None:
    """Start or resume the run."""
    loaded = load_recipe(recipe)
    with join_ranks() as ranks:
        Trainer(loaded, run, ranks, open_tokenizer(loaded.model.tokenizer)).train()


def train_by_command(recipe: Path, run: Path, errors: Path) -> None:
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT), 2)
    sys.argv = ["openpali", "train", str(recipe), "--run", str(run)]
    openpali()


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


def wait_for_end(child: int, moment: str) -> int:
    """The exit status of a run, once it is over.

    Data workers end by themselves, but for one that is forked in the moment of a kill: it takes its new parent for
    the old one and would wait for ever.
    """
    _, status = os.waitpid(child, 0)
    if moment != "written":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    return status


def children_of(process: int) -> list[Path]:
    """Folders in /proc; none on systems without it."""
    file = Path(f"/proc/{process}/task/{process}/children")
    return [Path("/proc", child) for child in file.read_text().split()] if file.is_file() else []


def stop(recipe: Path, folder: Path, dice: random.Random) -> None:
    """Send the command a SIGTERM after its first checkpoint."""
    run, errors = folder / f"{recipe.stem}-0", folder / f"{recipe.stem}.errors"
    child = attempt(lambda: train_by_command(recipe, run, errors))
    wait_for("written", run, dice)
    workers = children_of(child)
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    result = {
        "status": os.waitstatus_to_exitcode(status),
        "workers": {worker.name: worker.exists() for worker in workers},
        "errors": errors.read_text(),
        "checkpoint": checkpoints(run)[-1].name,
    }
    (folder / f"{recipe.stem}.stopped").write_text(json.dumps(result))


def kill(recipe: Path, folder: Path, kills: int, dice: random.Random) -> Counter[str]:
    """Kill runs of a recipe so many times; returns how many of each kind there were."""
    counts: Counter[str] = Counter()
    stop(recipe, folder, dice)
    orphans: list[Path] = []
    runs = killed = 0
    while killed < kills:
        run = folder / f"{recipe.stem}-{runs}"
        child = attempt(lambda run=run: train(recipe, run))
        moment = dice.choice(["any", "any", "writing", "written"]) if killed else "writing"
        wait_for(moment, run, dice)
        if moment == "written":
            orphans += children_of(child)
        os.kill(child, signal.SIGKILL)
        status = wait_for_end(child, moment)
        if os.WIFSIGNALED(status):
            killed += 1
            counts[moment] += 1
            counts["unfinished"] += any((run / "checkpoints").glob(".writing-*"))
        elif status:
            sys.exit("a run failed, see above")
        else:
            runs += 1
    if wait_for_end(attempt(lambda: train(recipe, folder / f"{recipe.stem}-{runs}")), "end"):
        sys.exit("the last run failed, see above")
    end = time.monotonic() + 60
    while left := [worker for worker in orphans if worker.exists()]:
        if time.monotonic() > end:
            sys.exit(f"data workers live on without their run: {left}")
        time.sleep(0.1)
    return counts


def main(folder: Path, kills: int, seed: int, recipes: list[Path]) -> None:
    dice = random.Random(seed)
    counts: Counter[str] = Counter()
    for number, recipe in enumerate(recipes):
        part = kills * (number + 1) // len(recipes) - kills * number // len(recipes)
        counts += kill(recipe, folder, part, dice)
    print(json.dumps(counts))


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1]))
    import unmeasured

    torch.set_num_threads(1)
    unmeasured.leave_out()
    open_source("nano/single", {})  # remembers its world
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), [Path(name) for name in sys.argv[4:]])
