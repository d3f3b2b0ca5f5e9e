"""``openpali tune``: from one's own samples to a model that answers, in one command."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from openpali.cli.models import open_pali
from openpali.cli.options import Overrides, UsageError, sampling
from openpali.cli.outputs import check_writable

if TYPE_CHECKING:
    from openpali.train.recipe import Recipe

WRITTEN = "# Written by `openpali tune`"
SHARE, MOST = 0.1, 0.25  # of the images for the validation file, and for the test file: of many, and of few


class Plan(NamedTuple):
    """What is trained where, and the files of its samples."""

    task: str
    recipe: Recipe
    folder: Path
    train: str
    validation: str
    test: str


def tune(
    samples: Annotated[
        Path | None, typer.Argument(metavar="SAMPLES", help="Your samples, a .jsonl file; with --fonts, more fonts")
    ] = None,
    overrides: Overrides = None,
    task: Annotated[
        str, typer.Option(help="Task to train (ocr, vqa, classify, ...); default: what the first sample is for")
    ] = "",
    run: Annotated[Path | None, typer.Option(help="Folder of the run; default: in the cache")] = None,
    fonts: Annotated[
        list[Path] | None, typer.Option(help="Fonts that the page reader learns, instead of samples")
    ] = None,
    text: Annotated[Path | None, typer.Option(help="Words in these fonts, a text file")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --fonts: print JSON")] = False,
) -> None:
    """Fine-tune nano on your samples: split them, choose start and length, train, calibrate, and score what was
    held out.

    It writes the recipe that it trains beside the samples; the same command resumes an interrupted run.

    With --fonts and --text it draws words in fonts, and tunes the reader of pages: letters that it lacks are added.
    """
    if fonts or text:
        return _tune_fonts(
            fonts or [], text, [*([str(samples)] if samples else []), *(overrides or ())], run, as_json
        )
    if samples is None or as_json:
        raise UsageError("give SAMPLES, or --fonts with --text" if samples is None else "--json is for --fonts")
    from openpali.data.sources.registry import check_source

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "tune splits, calibrates and scores in one process: run it without torchrun; the recipe that it writes "
            "trains on several with `torchrun ... -m openpali train`"
        )
    check_source(str(samples))  # before torch is imported
    from openpali.cli.train import run_recipe

    plan = _plan(samples, task, overrides or (), run)
    _check_samples(plan)
    run_recipe(plan.recipe, plan.folder)
    _calibrate_and_score(plan)


def _tune_fonts(
    fonts: Sequence[Path], text: Path | None, others: Sequence[str], run: Path | None, as_json: bool
) -> None:
    """Tune by an extension; of ``others``, those without "=" are fonts, which a shell has made of ``*.ttf``."""
    from openpali.extensions import option
    from openpali.messages import cannot_import

    if text is None or not fonts:
        raise UsageError("--fonts and --text go together: give both")
    try:
        tune_fonts = option("tune --fonts")
    except (ImportError, KeyError) as error:
        needs = "--fonts needs what trains the reader of pages"
        raise ValueError(cannot_import(needs, "openpali-screen[train]", error)) from error
    files = [Path(each) for each in others if "=" not in each]
    tune_fonts([*fonts, *files], text, [each for each in others if "=" in each], run, as_json=as_json)


def _plan(samples: Path, task: str, overrides: Sequence[str], run: Path | None) -> Plan:
    """Split the samples, and write the recipe."""
    from openpali.data.sources.registry import open_source
    from openpali.data.split import side_files, split_data
    from openpali.data.validate import check_fits
    from openpali.eval.benchmark import own_benchmark
    from openpali.train.load import load_recipe
    from openpali.train.recipe_file import as_toml
    from openpali.train.runs import folder_for
    from openpali.train.tuning import check_task, following, tuning

    benchmark = own_benchmark(str(samples), task)
    task, source = benchmark.task, benchmark.open(Path.cwd())
    check_task(task)
    check_fits(source, task)
    path = samples.with_name(f"{samples.stem}-{task}.toml")
    check_writable(path, *side_files(samples))
    if path.exists() and not path.read_text("utf-8").startswith(WRITTEN):
        raise ValueError(f"{path} was not written by `openpali tune`, which would replace it: rename it")
    share = held_out_share(len(source))
    parts = split_data(samples, share, share)
    for part in parts.values():
        typer.echo(f"{part.path}: {part.samples:,} samples")
    # in full: a run of another folder's file of this name is another run
    train, validation, test = (str(Path(parts[side].path).resolve()) for side in ("train", "validation", "test"))
    chosen = tuning(f"{samples.stem}-{task}", task, train, validation, open_source(train, {}))
    text, before = as_toml(chosen.recipe), path.read_text("utf-8") if path.exists() else ""
    of = f"# Of samples {_digest(train, validation, test)}\n"
    path.write_text(f"{WRITTEN}, which writes it anew: copy it to change it.\n{of}{text}", "utf-8")
    where = ["--run", str(run)] if run else []
    overrides = [*overrides, *following(load_recipe(path), load_recipe(path, overrides), overrides)]
    recipe = load_recipe(path, overrides)
    typer.echo(f"{chosen.why}\n\n{text}\n{shlex.join(['openpali', 'train', str(path), *where, *overrides])}")
    folder = folder_for(recipe.name, run)
    if "# Of samples " in before and of not in before and (folder / "recipe.json").exists():
        path.write_text(before, "utf-8")
        raise ValueError(
            f"{samples} has changed since the run in {folder} began, which does not see what is new: name another "
            "run, such as name=second, or delete that one"
        )
    return Plan(task, recipe, folder, train, validation, test)


def _digest(*files: str) -> str:
    whole = hashlib.sha256()
    for file in files:
        whole.update(Path(file).read_bytes())
    return whole.hexdigest()[:16]


def _check_samples(plan: Plan) -> None:
    """Find samples that would end the run or its evaluations, before hours are spent."""
    from openpali.data.validate import check_answerable, check_trainable
    from openpali.eval.benchmark import SEED
    from openpali.train.phases import training_terms
    from openpali.train.start import inherit
    from openpali.weights.bundle import open_tokenizer

    complete = inherit(plan.recipe, plan.folder)
    tokenizer = open_tokenizer(complete.model.tokenizer)
    terms = replace(training_terms(complete, tokenizer, plan.train, plan.task), seed=SEED)
    for held_out in (plan.validation, plan.test):
        check_answerable(held_out, terms)
    draws, cut = complete.samples, getattr(complete, "too_long", "") == "cut"
    if message := check_trainable(plan.train, terms, draws, complete.bad_limit(draws), cut=cut):
        typer.echo(message)


def _calibrate_and_score(plan: Plan) -> None:
    from openpali.cli.calibrate import fit_confidence, fit_detector
    from openpali.cli.eval import print_run
    from openpali.data.sources.registry import open_source
    from openpali.distributed import join_ranks
    from openpali.eval.benchmark import own_benchmark
    from openpali.eval.cards import FEWEST
    from openpali.eval.runner import run as evaluate
    from openpali.reports.progress import progress_bar

    folder, root = plan.folder, Path.cwd()
    best = folder / "best" if (folder / "best").is_dir() else folder / "model"
    options = plan.recipe.phases[-1].mixture[0].options
    apart = [own_benchmark(plan.validation, plan.task, options)]
    benchmark = own_benchmark(plan.test, plan.task, options)
    with join_ranks() as ranks:
        pali = open_pali(str(best), "torch", "fp32", str(ranks.device))
        fit_detector(apart, pali, root, trained_on=open_source(plan.train, options))
        try:
            fit_confidence(apart, pali, root)
        except ValueError as error:
            typer.echo(f"answers have no confidence: {error}")
        typer.echo(f"{plan.test}, which took no part in training:")
        pali = open_pali(str(best), "torch", "fp32", str(ranks.device))  # with what was fitted
        with progress_bar() as watch:
            done = evaluate(benchmark, pali, root, watch=watch(benchmark.name))
    print_run(done, folder / "card.json", folder / "report.html", FEWEST)
    command = shlex.join(asking(plan.task, best, options))
    typer.echo(f"report: {folder / 'report.html'}\nmodel: {best}, for `{command}`")
    start = plan.recipe.model.start
    typer.echo(
        f"It was trained on {plan.task} alone, and forgets what else {start} could do, such as naming its objects"
    )


def held_out_share(samples: int) -> float:
    """The share of the images for the validation file, and for the test file: of few samples a larger one, so that
    as many as a score needs are held out where that leaves half to train on."""
    from openpali.eval.cards import FEWEST

    return min(MOST, max(SHARE, FEWEST / samples))


def asking(task: str, model: Path, options: Mapping[str, Any]) -> list[str]:
    """The command that asks a model, about videos with the frames that it was trained on."""
    given = sampling(options.get("frames"), options.get("stride"))
    sampled = [f"--{name}={value}" for name, value in given.items()]
    return ["openpali", "predict", "--task", task, "--model", str(model), *sampled]
