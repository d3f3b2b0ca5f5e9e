"""``openpali names``: the objects that a model can find."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from openpali.cli.options import Json


def names(
    model: Annotated[str, typer.Argument(help="A model, as predict takes it")] = "nano",
    as_json: Json = False,
) -> None:
    """List the names of objects that a model can find, a line each."""
    from openpali.weights.bundle import open_bundle
    from openpali.weights.find import find_model

    known = open_bundle(find_model(model)).names
    if not known:
        raise ValueError(f"{model} does not say which names it knows: its bundle.json has no names")
    typer.echo(json.dumps(known, ensure_ascii=False) if as_json else "\n".join(known))
