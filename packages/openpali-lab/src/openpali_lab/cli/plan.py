"""``openpali plan``: the cost of a recipe on other machines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openpali.cli.options import Json, Overrides
from openpali.cli.options import Recipe as RecipeFile

if TYPE_CHECKING:
    from openpali.train.recipe import Recipe
    from openpali_lab.plan.planner import Plan


def plan(
    recipe: RecipeFile,
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
    """Estimate what a recipe or a study needs: memory per rank, FLOPs, communication, days; and what batch fits."""
    from openpali.progress import working
    from openpali.train.load import load_recipe
    from openpali.train.objectives.base import Lengths
    from openpali.train.start import inherit
    from openpali_lab.plan.planner import find_device, make_plan
    from openpali_lab.study.spec import is_study

    lengths = Lengths(prompt, target, frames)

    def estimate(each: Recipe) -> Plan:
        found = find_device(device, devices)
        return make_plan(inherit(each), found, devices, lengths, efficiency, working)

    if is_study(recipe):
        _plan_study(recipe, overrides or [], estimate, as_json)
        return
    planned = estimate(load_recipe(recipe, overrides or ()))
    if as_json:
        typer.echo(json.dumps(planned.as_json(), indent=1))
        return
    for line in planned.lines():
        typer.echo(line)


def _plan_study(file: Path, overrides: list[str], estimate: Callable[[Recipe], Plan], as_json: bool) -> None:
    """Plan one run of each stage and size, and count how many there are."""
    from openpali.messages import duration
    from openpali_lab.cli.study import open_study

    runs = open_study(file, overrides)[1].runs.values()
    counts = Counter((run.stage, run.size) for run in runs)
    first = {(run.stage, run.size): run.recipe for run in reversed([*runs])}
    plans = {key: estimate(first[key]) for key in counts}
    if as_json:
        typer.echo(json.dumps([{"runs": counts[key], **plan.as_json()} for key, plan in plans.items()], indent=1))
        return
    for key, plan in plans.items():
        typer.echo(f"{counts[key]} x {', '.join(key)}:")
        for line in plan.lines():
            typer.echo(f"  {line}")
    total = sum(counts[key] * plan.training for key, plan in plans.items())
    typer.echo(f"the study: {len(runs)} runs one after the other, {duration(total)}; scoring is not counted")
    typer.echo(next(iter(plans.values())).times)
