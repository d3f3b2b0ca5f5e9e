"""``openpali runs``: what training has left in the cache."""

from __future__ import annotations

import time
from typing import Annotated

import typer


def runs(
    remove: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Delete this run, with its models; repeat it for several"),
    ] = None,
) -> None:
    """List the runs in the cache with their sizes, or delete some."""
    from openpali.home import home
    from openpali.train.runs import find_runs, remove_run

    for name in remove or ():
        typer.echo(f"{name} is removed: {_megabytes(remove_run(name).bytes).strip()}")
    if remove:
        return
    found = find_runs()
    width = max((len(run.name) for run in found), default=0)
    for run in found:
        part = "?" if run.samples is None else f"{run.samples:,} of {run.total:,} samples"
        day = time.strftime("%Y-%m-%d", time.localtime(run.changed))
        typer.echo(f"{run.name:{width}}  {_megabytes(run.bytes)}  {day}  {part}")
    typer.echo(f"{len(found)} runs in {home() / 'runs'}: {_megabytes(sum(run.bytes for run in found)).strip()}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:8,.1f} MB"
