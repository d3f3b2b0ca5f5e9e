"""``openpali train``: run a recipe."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openpali.cli.options import Overrides, Recipe

if TYPE_CHECKING:
    from openpali.train.recipe import Recipe as Resolved


def train(
    recipe: Recipe,
    overrides: Overrides = None,
    run: Annotated[Path | None, typer.Option(help="Folder of the run; default: in the cache")] = None,
) -> None:
    """Train a model as a recipe says; the same command resumes an interrupted run.

    A finished run goes on if its last phase has more samples now, as with phases.0.samples=25_600.
    """
    from openpali.train.recipe_file import read_table

    read_table(recipe)  # a wrong path is refused before torch is imported
    from openpali.train.load import load_recipe
    from openpali.train.runs import folder_for

    named = load_recipe(recipe, overrides or ())
    run_recipe(named, folder_for(named.name, run))


def run_recipe(named: Resolved, folder: Path) -> None:
    """Train as a recipe says, in the folder of its run, and say what came of it."""
    from torch import nn

    from openpali.distributed import join_ranks
    from openpali.model.vision_language import VisionLanguageModel
    from openpali.reports.curves import draw_curves
    from openpali.reports.samples import draw_samples
    from openpali.train.start import inherit
    from openpali.train.trainer import Trainer
    from openpali.train.watch import Watch, describe_outcome
    from openpali.weights.bundle import open_tokenizer

    with join_ranks() as ranks:
        loaded = inherit(named, folder)
        trainer = Trainer(loaded, folder, ranks, open_tokenizer(loaded.model.tokenizer))

        def look(model: nn.Module) -> None:
            if trainer.folder.metrics.is_file() and find_spec("matplotlib"):
                draw_curves(folder)
            if isinstance(model, VisionLanguageModel) and not trainer.sharded:
                draw_samples(model, trainer.stream, trainer.samples, folder / "samples.png")

        written = trainer.train(Watch(look, quiet=ranks.rank > 0))
    finished = f"{named.name} is finished; nothing was trained: its model is"
    if ranks.rank == 0:
        typer.echo(f"{finished if trainer.finished else 'model written to'} {written}")
        for line in filter(None, (*trainer.summary(), describe_outcome(loaded, trainer.folder.metrics))):
            typer.echo(line)
