"""``python -m openpali_lab speedrun``: a small model of one's own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

import typer

from openpali.cli.options import Overrides

SizeName = Literal["pico", "nano", "mini"]
SAMPLES = 300  # held out, of each benchmark, of an entry of the record in docs/speedrun.md
MOST = 60  # minutes


def speedrun(
    overrides: Overrides = None,
    size: Annotated[
        SizeName, typer.Option(help="Sets width, depth, samples and learning rates; the floors are for nano")
    ] = "nano",
    seed: Annotated[int, typer.Option(help="Of samples and weights; each seed has its own runs", min=0)] = 0,
    limit: Annotated[int, typer.Option(help="Held-out samples of each benchmark", min=1)] = SAMPLES,
    ranks: Annotated[int, typer.Option(help="Processes of one thread each that train", min=1)] = 2,
    opens: Annotated[
        bool,
        typer.Option("--open/--no-open", help="At the end, serve the page of the model and open it, in a terminal"),
    ] = True,
) -> None:
    """Train a small model from nothing, in the stages of PaLI-3, and score it; the same command resumes it."""
    if ranks > 1 and "WORLD_SIZE" not in os.environ:
        options = ["--size", size, "--seed", str(seed), "--limit", str(limit), "--no-open"]
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        command = ["-m", "openpali_lab", "speedrun", *(overrides or ()), *options]
        if code := _wait([sys.executable, *launch, *command], OMP_NUM_THREADS="1"):
            raise typer.Exit(code)
    else:
        _run(size, seed, limit, overrides or [])
    serve = ["serve", "--model", f"speedrun/{size}-{seed}"]
    if "WORLD_SIZE" not in os.environ:
        typer.echo(f"its page: openpali {' '.join(serve)}")
        if opens and sys.stdout.isatty():
            _wait([sys.executable, "-m", "openpali", *serve, "--open"])


def _run(size: SizeName, seed: int, limit: int, overrides: list[str]) -> None:
    """Run it in this process, as one of the ranks, and print its card."""
    from openpali.distributed import join_ranks
    from openpali_lab.speedrun import FLOORS, SIZES, Speedrun, missed

    with join_ranks() as joined:
        say: Callable[[str], None] = typer.echo if joined.rank == 0 else lambda text: None
        ours, nano, minutes = Speedrun(SIZES[size], seed, limit, overrides).do(joined, say)
    say(f"{'held out':16} {'score':12} {'yours':>6} {'nano':>6} {'floor':>6}")
    for name, (score, least) in FLOORS.items():
        say(f"{name:16} {score:12} {ours[name]:6.3f} {nano[name]:6.3f} {least:6.2f}")
    if below := missed(ours):
        say(f"{minutes:.1f} min; below the floor: {', '.join(below)}")
        return
    if why := _no_entry(size, limit, minutes):
        say(f"{minutes:.1f} min; every floor is met, but the record has no entry of it: {why}")
        return
    cells = [date.today(), _commit(), f"{platform.machine()}, {os.cpu_count()} cores", f"{minutes:.1f}"]
    say(f"every floor is met; an entry for docs/speedrun.md:\n| {' | '.join(map(str, cells))} | seed {seed} |")


def _no_entry(size: SizeName, limit: int, minutes: float) -> str:
    """Why a run that meets every floor is no entry of the record; "" if it is one."""
    if size != "nano":
        return "the floors are for nano"
    if limit < SAMPLES:
        return f"it was scored on fewer than {SAMPLES} samples of each benchmark"
    return f"it took more than {MOST} minutes" if minutes > MOST else ""


def _wait(command: list[str], **env: str) -> int:
    """Run a command to its end. Ctrl-C reaches it, too, and it may have a checkpoint to write."""
    with subprocess.Popen(command, env=os.environ | env) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue


def _commit() -> str:
    """The commit of the code, or its version where it is not in a repository."""
    from openpali import __version__

    asked = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return __version__
