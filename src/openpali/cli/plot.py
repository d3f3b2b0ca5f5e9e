"""``openpali plot``: draw the curves of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openpali.cli.outputs import check_writable


def plot(
    run: Annotated[str, typer.Argument(help="A run folder, or the name of a run, such as nano/0a_siglip")],
    out: Annotated[
        Path | None, typer.Option(help="Image file to write; default: curves.png in the run folder")
    ] = None,
) -> None:
    """Draw the training curves of a run as an image."""
    from openpali.home import home
    from openpali.messages import hint
    from openpali.reports.curves import draw_curves

    check_writable(out)
    root = home() / "runs"
    folder = Path(run) if Path(run).is_dir() else root / run
    if not folder.is_dir():
        known = (metrics.parent.relative_to(root).as_posix() for metrics in sorted(root.rglob("metrics.jsonl")))
        raise FileNotFoundError(f"no run {run!r}, neither as a folder nor in {root}; {hint(run, known)}")
    typer.echo(draw_curves(folder, out))
