"""``openpali explain``: show what a recipe trains on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from openpali.cli.options import Overrides


def explain(
    recipe: Annotated[
        Path | None, typer.Argument(help="A recipe file; without it, the recipes of the package are listed")
    ] = None,
    overrides: Overrides = None,
    source: Annotated[
        bool,
        typer.Option("--source", help="Only print a recipe of the package, by its name, as a file of its own"),
    ] = False,
    rows: Annotated[int, typer.Option(help="Number of samples to print", min=0)] = 4,
) -> None:
    """Show a resolved recipe, its mixture, what learns, and its first batch with the tokens that carry loss.

    `openpali explain --source detect > mine.toml` begins a recipe of your own.
    """
    if source and (recipe is None or overrides):
        raise ValueError("--source prints a recipe of the package as it is: give its name alone")
    if recipe is None:
        _list()
    elif source:
        from openpali.train.load import recipe_text

        typer.echo(recipe_text(str(recipe)), nl=False)
    else:
        _explain(recipe, overrides or (), rows)


def _list() -> None:
    from openpali.train.recipe_file import describe_recipe, shipped_recipes

    recipes = shipped_recipes()
    width = max(map(len, recipes), default=0)
    for name, path in recipes.items():
        typer.echo(f"{name:{width}}  {describe_recipe(path)}")


def _explain(recipe: Path, overrides: Sequence[str], rows: int) -> None:
    from openpali.data.pipeline.encode import Batch
    from openpali.data.pipeline.stream import Stream, load
    from openpali.train.evals import describe_evaluations, open_evaluations
    from openpali.train.load import load_recipe
    from openpali.train.objectives.registry import build_objective
    from openpali.train.phases import class_names, describe_phases, open_phases
    from openpali.train.recipe_file import as_toml
    from openpali.train.start import inherit
    from openpali.train.step import describe_learning
    from openpali.weights.bundle import open_tokenizer

    loaded = inherit(load_recipe(recipe, overrides))
    typer.echo(as_toml(loaded.model_dump()))
    tokenizer = open_tokenizer(loaded.model.tokenizer)
    phases = open_phases(loaded, tokenizer)
    for line in describe_phases(loaded, phases):
        typer.echo(line)
    for line in describe_evaluations(loaded, open_evaluations(loaded, tokenizer)):
        typer.echo(line)
    objective = build_objective(loaded, tokenizer, lambda: class_names(phases))
    for line in describe_learning(loaded, objective):
        typer.echo(line)

    def first() -> Batch:
        stream = Stream(phases, objective.encoder, loaded.seed)
        [loaded_batch] = next(load(stream, start=0, batch=loaded.batch, workers=0))
        return loaded_batch.batch

    for line in objective.explain(first, rows):
        typer.echo(line)
