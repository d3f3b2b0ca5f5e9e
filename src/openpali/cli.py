"""The command line: thin, and without tracebacks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _openpali() -> None:
    """PaLI-3 style vision-language models: pretrain, fine-tune, evaluate and serve."""


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, as recipes/nano/0a_siglip.toml")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, dotted keys")] = None,
    run: Annotated[Path | None, typer.Option(help="Folder of the run")] = None,
) -> None:
    """Train by a recipe; continue if it was stopped."""
    from openpali.data.home import home
    from openpali.data.vocabulary import open_tokenizer
    from openpali.train.ranks import join_ranks
    from openpali.train.recipe import load_recipe
    from openpali.train.trainer import Trainer

    loaded = load_recipe(recipe, overrides or ())
    with join_ranks() as ranks:
        trainer = Trainer(
            loaded, run or home() / "runs" / loaded.name, ranks, open_tokenizer(loaded.model.tokenizer)
        )
        folder = trainer.train()
    typer.echo(f"model written to {folder}")


def main() -> None:
    """Entry point: what a user can mend is one sentence on stderr."""
    try:
        app()
    except (ValueError, FileNotFoundError, OSError) as error:
        sys.exit(f"openpali: {error}")
    except KeyboardInterrupt as stop:
        sys.exit(f"openpali: {stop or 'stopped'}")
