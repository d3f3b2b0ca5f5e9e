"""``openpali tune``: from one's own samples to a model that answers, in one command."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from openpali.cli.models import open_pali
from openpali.cli.options import Overrides
from openpali.cli.outputs import check_writable

WRITTEN = "# Written by `openpali tune`"
SHARE = 0.1  # of the images for the validation file, and for the test file


def tune(
    samples: Annotated[Path, typer.Argument(help="Your samples, a .jsonl file")],
    overrides: Overrides = None,
    task: Annotated[
        str, typer.Option(help="Task to train (ocr, vqa, classify, ...); default: what the first sample is for")
    ] = "",
    run: Annotated[Path | None, typer.Option(help="Folder of the run; default: in the cache")] = None,
) -> None:
    """Fine-tune nano on your samples: split them, choose start and length, train, calibrate, and score what was
    held out.

    It writes the recipe that it trains beside the samples; the same command resumes an interrupted run.
    """
    from openpali.cli.calibrate import fit_confidence, fit_detector
    from openpali.cli.eval import print_run
    from openpali.cli.train import run_recipe
    from openpali.data.sources.registry import open_source
    from openpali.data.split import side_files, split_data
    from openpali.data.validate import check_answerable
    from openpali.distributed import join_ranks
    from openpali.eval.benchmark import own_benchmark
    from openpali.eval.runner import run as evaluate
    from openpali.reports.progress import progress_bar
    from openpali.train.load import load_recipe
    from openpali.train.recipe_file import as_toml
    from openpali.train.runs import folder_for
    from openpali.train.tuning import tuning

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "tune splits, calibrates and scores in one process: run it without torchrun; the recipe that it writes "
            "trains on several with `torchrun ... -m openpali train`"
        )
    task = own_benchmark(str(samples), task).task
    recipe = samples.with_name(f"{samples.stem}-{task}.toml")
    check_writable(recipe, *side_files(samples))
    if recipe.exists() and not recipe.read_text("utf-8").startswith(WRITTEN):
        raise ValueError(f"{recipe} was not written by `openpali tune`, which would replace it: rename it")
    parts = split_data(samples, SHARE, SHARE)
    for part in parts.values():
        typer.echo(f"{part.path}: {part.samples:,} samples")
    # in full: a run of another folder's file of this name is another run
    train, validation, test = (str(Path(parts[side].path).resolve()) for side in ("train", "validation", "test"))
    for held_out in (validation, test):
        check_answerable(held_out, task)
    drawn = open_source(train, {})
    chosen = tuning(f"{samples.stem}-{task}", task, train, validation, drawn)
    text = as_toml(chosen.recipe)
    recipe.write_text(f"{WRITTEN}, which writes it anew: copy it to change it.\n{text}", "utf-8")
    typer.echo(f"{chosen.why}\n\n{text}\n{shlex.join(['openpali', 'train', str(recipe), *(overrides or ())])}")
    loaded = load_recipe(recipe, overrides or ())
    folder = folder_for(loaded.name, run)
    run_recipe(loaded, folder)
    best = folder / "best" if (folder / "best").is_dir() else folder / "model"
    apart, benchmark = [own_benchmark(validation, task)], own_benchmark(test, task)
    with join_ranks() as ranks:
        pali = open_pali(str(best), "torch", "fp32", str(ranks.device))
        fit_detector(apart, pali, Path.cwd(), trained_on=drawn)
        try:
            fit_confidence(apart, pali, Path.cwd())
        except ValueError as error:
            typer.echo(f"answers have no confidence: {error}")
        typer.echo(f"{test}, which took no part in training:")
        pali = open_pali(str(best), "torch", "fp32", str(ranks.device))  # with what was fitted
        with progress_bar() as watch:
            done = evaluate(benchmark, pali, Path.cwd(), watch=watch(benchmark))
    print_run(done, folder / "card.json", folder / "report.html")
    typer.echo(
        f"report: {folder / 'report.html'}\nmodel: {best}, for `openpali predict --task {task} --model {best}`"
    )
