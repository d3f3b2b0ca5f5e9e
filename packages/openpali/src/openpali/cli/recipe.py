"""``openpali recipe``: the recipes that come with the package."""

from __future__ import annotations

from typing import Annotated

import typer

from openpali.cli.options import Command, Group

app = typer.Typer(cls=Group, no_args_is_help=True, help="List and print the recipes that come with the package.")


@app.command("list", cls=Command)
def list_() -> None:
    """List names and purposes."""
    from openpali.train.recipe_file import describe_recipe, shipped_recipes

    recipes = shipped_recipes()
    width = max(map(len, recipes), default=0)
    for name, path in recipes.items():
        typer.echo(f"{name:{width}}  {describe_recipe(path)}")


@app.command(cls=Command)
def new(
    name: Annotated[str, typer.Argument(help="caption, vqa, ocr, line, ..., or another of the list")],
) -> None:
    """Print a recipe that stands alone: openpali recipe new detect > mine.toml"""
    from openpali.train.shipped import recipe_text

    typer.echo(recipe_text(name), nl=False)
