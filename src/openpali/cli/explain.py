"""``openpali explain``: show what a recipe trains on."""

from __future__ import annotations

from typing import Annotated

import typer

from openpali.cli.options import Overrides, Recipe


def explain(
    recipe: Recipe,
    overrides: Overrides = None,
    rows: Annotated[int, typer.Option(help="Number of samples to print", min=0)] = 4,
) -> None:
    """Show a resolved recipe, its mixture, and its first batch token by token with the tokens that carry loss."""
    from openpali.data.explain import explain_batch
    from openpali.data.pipeline.encode import SequenceEncoder
    from openpali.data.pipeline.stream import Stream, load
    from openpali.train.evals import describe_evaluations, open_evaluations
    from openpali.train.phases import describe_phases, open_phases
    from openpali.train.recipe import SequenceRecipe, load_recipe
    from openpali.train.recipe_file import as_toml
    from openpali.train.start import inherit
    from openpali.weights.family import open_tokenizer

    loaded, notes = inherit(load_recipe(recipe, overrides or ()))
    typer.echo(as_toml(loaded.model_dump()))
    for note in notes:
        typer.echo(note)
    tokenizer = open_tokenizer(loaded.model.tokenizer)
    phases = open_phases(loaded, tokenizer)
    for line in describe_phases(loaded, phases):
        typer.echo(line)
    for line in describe_evaluations(open_evaluations(loaded, tokenizer)):
        typer.echo(line)
    if isinstance(loaded, SequenceRecipe):
        encoder = SequenceEncoder(tokenizer, loaded.max_prompt, loaded.max_target, loaded.too_long == "cut")
        [first] = next(load(Stream(phases, encoder, loaded.seed), start=0, batch=loaded.batch, workers=0))
        for line in explain_batch(first.batch, tokenizer, rows=rows):
            typer.echo(line)
