"""``openpali runs``: what training has left in the cache."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from openpali.cli.options import Json


def runs(
    remove: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Delete this run, with its models; repeat it for several"),
    ] = None,
    plot: Annotated[
        str, typer.Option(metavar="RUN", help="Draw the training curves of this run, a name or a folder, instead")
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="Image of --plot; default: curves.png in the folder of the run")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the runs in the cache with their sizes, delete some, or draw the curves of one."""
    if out is not None and not plot:
        raise ValueError("--out is the image of --plot: give both, or leave it out")
    if plot and (remove or as_json):
        raise ValueError("--plot draws one run: leave out --remove and --json")
    if plot:
        typer.echo(_plot(plot, out))
        return
    from openpali.home import home
    from openpali.train.runs import find_runs, remove_run

    for name in remove or ():
        typer.echo(f"{name} is removed: {_megabytes(remove_run(name).bytes).strip()}", err=as_json)
    if remove and not as_json:
        return
    found = find_runs()
    if as_json:
        typer.echo(json.dumps([run.as_json() for run in found], indent=1, ensure_ascii=False))
        return
    width = max((len(run.name) for run in found), default=0)
    for run in found:
        part = "?" if run.samples is None else f"{run.samples:,} of {run.total:,} samples"
        day = time.strftime("%Y-%m-%d", time.localtime(run.changed))
        typer.echo(f"{run.name:{width}}  {_megabytes(run.bytes)}  {day}  {part}")
    typer.echo(f"{len(found)} runs in {home() / 'runs'}: {_megabytes(sum(run.bytes for run in found)).strip()}")


def _plot(run: str, out: Path | None) -> Path:
    from openpali.cli.outputs import check_writable
    from openpali.reports.curves import draw_curves
    from openpali.train.runs import find_run

    check_writable(out)
    return draw_curves(Path(run) if Path(run).is_dir() else find_run(run), out)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:8,.1f} MB"
