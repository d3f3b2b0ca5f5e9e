"""``openpali explain``: show what a recipe trains on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def explain(
    recipe: Annotated[Path, typer.Argument(help="A recipe file")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, replaces a value of the recipe")] = None,
    rows: Annotated[int, typer.Option(help="Number of samples to print", min=0)] = 4,
) -> None:
    """Show a recipe as resolved, what it draws, and its first batch token by token with those that carry loss."""
    from openpali.data.explain import explain_batch
    from openpali.data.pipeline.encode import SequenceEncoder
    from openpali.data.pipeline.stream import Stream, load
    from openpali.train.phases import describe_phases, open_phases
    from openpali.train.recipe import SequenceRecipe, load_recipe
    from openpali.train.recipe_file import as_toml
    from openpali.weights.family import open_tokenizer

    loaded = load_recipe(recipe, overrides or ())
    typer.echo(as_toml(loaded.model_dump()))
    tokenizer = open_tokenizer(loaded.model.tokenizer)
    phases = open_phases(loaded, tokenizer)
    for line in describe_phases(loaded, phases):
        typer.echo(line)
    if isinstance(loaded, SequenceRecipe):
        encoder = SequenceEncoder(tokenizer, loaded.max_prompt, loaded.max_target, loaded.too_long == "cut")
        [first] = next(load(Stream(phases, encoder, loaded.seed), start=0, batch=loaded.batch, workers=0))
        for line in explain_batch(first.batch, tokenizer, rows=rows):
            typer.echo(line)
