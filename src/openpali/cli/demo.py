"""``openpali demo``: a page of answers to held-out images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openpali.cli.options import Model
from openpali.cli.outputs import check_writable


def demo(
    out: Annotated[Path, typer.Option(help="HTML file to write")] = Path("demo/index.html"),
    model: Model = "nano",
) -> None:
    """Answer questions about twelve held-out images, and write one self-contained HTML page."""
    from openpali.infer.pali import Pali
    from openpali.reports.demo import write_demo

    check_writable(out)
    shown = write_demo(Pali.from_pretrained(model), out)
    typer.echo(f"{sum(each.right for each in shown)} of {len(shown)} right: open {out}")
