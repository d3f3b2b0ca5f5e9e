"""``openpali data``: build and check data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from openpali.cli.models import written
from openpali.cli.options import Command, Group, Json, Model
from openpali.cli.outputs import check_drawable, check_not_input, check_writable

app = typer.Typer(cls=Group, no_args_is_help=True, help="Build and check data sets.")


@app.command(cls=Command)
def split(
    path: Annotated[Path, typer.Argument(help="A .jsonl file")],
    held_out: Annotated[float, typer.Option(help="Share of the images for the test file")] = 0.1,
    validation: Annotated[
        float, typer.Option(help="Share of the images for a validation file, to choose by while training")
    ] = 0.0,
    as_json: Json = False,
) -> None:
    """Write NAME-train.jsonl, NAME-test.jsonl and perhaps NAME-validation.jsonl, with no image in two of them."""
    from dataclasses import asdict

    from openpali.data.split import side_files, split_data

    if path.is_file():
        check_writable(*side_files(path))
    parts = split_data(path, held_out, validation)
    if as_json:
        typer.echo(json.dumps({name: asdict(part) for name, part in parts.items()}))
        return
    for part in parts.values():
        images = f" of {part.images:,} images" if part.images else ""
        typer.echo(f"{part.path}: {part.samples:,} samples{images}, {part.share:.1%}")


@app.command(cls=Command)
def validate(
    path: Annotated[
        str, typer.Argument(help="A .jsonl file, or a file, folder or pattern of .tar shards or .parquet")
    ],
    task: Annotated[str, typer.Option(help="Task to train; default: the recipe's, or every task that fits")] = "",
    model: Model = "nano",
    recipe: Annotated[
        Path | None, typer.Option(help="Recipe that trains on the data: its tokenizer, tasks and limits count")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of samples to check, evenly spaced")] = 1000,
    out: Annotated[Path | None, typer.Option(help="Write a contact sheet to this image file")] = None,
    as_json: Json = False,
) -> None:
    """Check a data set, and show what the model will see.

    Samples are written as the model knows its tasks, or as the recipe trains them.
    """
    from rich.console import Console

    from openpali.data.validate import validate as check
    from openpali.reports.contact_sheet import ContactSheet
    from openpali.reports.validation import render

    if out is not None:
        check_drawable(out)
    if recipe is not None:
        from openpali.train.load import load_recipe
        from openpali.train.phases import training_terms
        from openpali.train.start import inherit
        from openpali.weights.bundle import open_tokenizer

        loaded = inherit(load_recipe(recipe))
        terms = training_terms(loaded, open_tokenizer(loaded.model.tokenizer), path, task)
    else:
        from openpali.weights.known import known_terms

        terms = known_terms(written(model), task)
    sheet = ContactSheet()
    found = check(path, terms, limit=limit, show=sheet.add if out else None)
    drawn = str(out) if out is not None and sheet.save(out) else ""
    if as_json:
        typer.echo(json.dumps(found.as_json() | {"sheet": drawn}, ensure_ascii=False))
    else:
        Console().print(render(found, drawn))
    if not found.ok:
        raise typer.Exit(1)


@app.command("import", cls=Command)
def import_(
    format: Annotated[str, typer.Argument(help="coco, csv or docvqa")],
    path: Annotated[Path, typer.Argument(help="The file of the annotations")],
    out: Annotated[Path, typer.Option(help="JSONL file to write, as data of a recipe")],
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images; default: where the format has them")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write annotations in another format as JSONL, and count what cannot be used."""
    from rich.console import Console

    from openpali.data.importers.registry import import_data
    from openpali.reports.validation import render_import

    check_not_input(out, path)
    check_writable(out)
    found = import_data(format, path, out, images=images)
    if as_json:
        typer.echo(json.dumps(found.as_json(), ensure_ascii=False))
    else:
        Console().print(render_import(found))
