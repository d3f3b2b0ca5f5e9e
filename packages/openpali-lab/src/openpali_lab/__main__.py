"""``python -m openpali_lab``: what the laboratory does beside the commands of ``openpali``."""

from __future__ import annotations

import typer

from openpali.cli.main import main
from openpali.cli.options import Command, Group
from openpali_lab.cli.fairness import fairness
from openpali_lab.cli.speedrun import speedrun

app = typer.Typer(cls=Group, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for verb in (speedrun, fairness):
    app.command(cls=Command)(verb)


@app.callback()
def _lab() -> None:
    """Records and comparisons of OpenPaLI's laboratory."""


if __name__ == "__main__":
    main(app)
