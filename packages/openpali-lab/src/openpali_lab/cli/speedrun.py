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
) -> None:
    """Train a small model from nothing, in the stages of PaLI-3, and score it; the same command resumes it."""
    if ranks == 1 or "WORLD_SIZE" in os.environ:
        _run(size, seed, limit, overrides or [])
        return
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    options = ["--size", size, "--seed", str(seed), "--limit", str(limit)]
    command = ["-m", "openpali_lab", "speedrun", *(overrides or ()), *options]
    if code := _wait([sys.executable, *launch, *command], OMP_NUM_THREADS="1"):
        raise typer.Exit(code)


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
    elif size != "nano" or limit < SAMPLES or minutes > MOST:
        say(
            f"{minutes:.1f} min; every floor is met, but an entry of the record is of nano, on {SAMPLES} samples "
            f"of each benchmark, in {MOST} minutes"
        )
    else:
        cells = [date.today(), _commit(), f"{platform.machine()}, {os.cpu_count()} cores", f"{minutes:.1f}"]
        say(f"every floor is met; an entry for docs/speedrun.md:\n| {' | '.join(map(str, cells))} | seed {seed} |")
    say(f"its page: openpali serve --model speedrun/{size}-{seed} --open")


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
