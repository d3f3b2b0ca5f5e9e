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
    from openpali.reports.curves import draw_curves
    from openpali.train.runs import find_run

    check_writable(out)
    folder = Path(run)
    typer.echo(draw_curves(folder if folder.is_dir() else find_run(run), out))
