"""``openpali plan``: the cost of a recipe on other machines."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from openpali.cli.options import Json, Overrides, Recipe


def plan(
    recipe: Recipe,
    overrides: Overrides = None,
    devices: Annotated[int, typer.Option(help="Number of devices", min=1)] = 1,
    device: Annotated[str, typer.Option(help="h100, h200, b200, a100-80, a100-40, l40s, rtx4090, or cpu")] = "h100",
    prompt: Annotated[
        int | None, typer.Option(help="Prompt tokens per row; default: the recipe's maximum", min=1)
    ] = None,
    target: Annotated[
        int | None, typer.Option(help="Target tokens per row; default: the recipe's maximum", min=1)
    ] = None,
    frames: Annotated[
        int | None, typer.Option(help="Frames per video; default: the recipe's maximum", min=1)
    ] = None,
    efficiency: Annotated[float, typer.Option(help="Fraction of the peak FLOP rate that is reached")] = 0.4,
    as_json: Json = False,
) -> None:
    """Estimate what a recipe needs: memory per rank, FLOPs, communication, days; and what batch fits."""
    from openpali.plan.planner import Lengths, find_device, make_plan
    from openpali.progress import working
    from openpali.train.recipe import load_recipe
    from openpali.train.start import inherit

    lengths = Lengths(prompt, target, frames)
    loaded = inherit(load_recipe(recipe, overrides or ())).recipe
    planned = make_plan(loaded, find_device(device, devices), devices, lengths, efficiency, working)
    if as_json:
        typer.echo(json.dumps(planned.as_json(), indent=1))
        return
    for line in planned.lines():
        typer.echo(line)
