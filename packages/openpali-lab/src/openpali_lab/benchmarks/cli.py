"""``openpali data refcoco``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openpali.cli.options import DataRoot
from openpali.cli.outputs import check_writable


def refcoco(
    out: Annotated[Path, typer.Argument(help="JSONL file to write, as data of a recipe")],
    root: DataRoot = None,
) -> None:
    """Write the training set of RefCOCO/+/g, without the images of their test sets."""
    from openpali.home import home
    from openpali_lab.benchmarks.refcoco import write_training

    check_writable(out)
    for name, (kept, left_out) in write_training(root or home() / "data", out).items():
        typer.echo(f"{name}: {kept:,} images, {left_out:,} left out: they are in a test set")
