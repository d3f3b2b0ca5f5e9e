"""``openpali push``: upload a model to a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def push(
    model: Annotated[str, typer.Argument(help="A model folder, an adapter or a finished run")],
    name: Annotated[str, typer.Argument(help="Where to, as hf://user/name")],
    licence: Annotated[
        str,
        typer.Option(
            "--license", help="Licence of the weights, as gemma or apache-2.0; the start weights' applies"
        ),
    ],
    scores: Annotated[
        list[Path] | None, typer.Option(help="A score card of openpali eval --json; repeat it")
    ] = None,
    upload: Annotated[
        bool, typer.Option("--upload", help="Upload; without it, show what would be uploaded")
    ] = False,
) -> None:
    """Upload a model with a generated card; by default, only show what would be uploaded."""
    from openpali.weights import hub
    from openpali.weights.card import model_card, start_of
    from openpali.weights.files import ADAPTER
    from openpali.weights.find import find_model, is_only_here
    from openpali.weights.format import open_model

    hub.parse(name)
    source = open_model(find_model(model))
    if source.facts.base:
        raise ValueError(
            f"{source.folder} shares weights with the part {source.facts.base} beside it, and nobody could open it "
            f"alone: write a whole model first, such as `openpali quantize {model} --out whole`, and push that"
        )
    card = model_card(source, licence, scores or ())
    start = start_of(source)
    if start and is_only_here(start):
        fix = f", then correct base_model_name_or_path in {source.folder / ADAPTER}" if source.adapter else ""
        typer.echo(f"openpali: it starts from {start}, which only this machine has: push that first{fix}", err=True)
    if upload:
        typer.echo(f"uploaded to {hub.push(source.folder, name, card)}")
        return
    typer.echo(card)
    for file in sorted(path for path in source.folder.rglob("*") if path.is_file()):
        typer.echo(f"{file.relative_to(source.folder)}  {file.stat().st_size / 1e6:,.2f} MB")
    typer.echo(f"nothing was uploaded: add --upload to write {name}")
