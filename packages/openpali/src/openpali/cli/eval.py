"""``openpali eval``: score a model on a benchmark or a suite, and compare score cards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openpali.cli.models import check_model, open_pali
from openpali.cli.options import DataRoot, Device, Dtype, Engine, Frames, Model, Stride, UsageError, sampling
from openpali.cli.outputs import check_not_input, check_writable
from openpali.eval.splits import EvalSplit

if TYPE_CHECKING:
    from openpali.eval.runner import Run
    from openpali.eval.suites import Outcome


def evaluate(
    benchmark: Annotated[
        str,
        typer.Argument(
            metavar="BENCHMARK | FILE | diff A B",
            help="nano/caption, docvqa, ...; your data (JSONL, shards, Parquet); diff compares two score cards",
        ),
    ] = "",
    cards: Annotated[list[Path] | None, typer.Argument(hidden=True)] = None,
    task: Annotated[
        str,
        typer.Option(help="Task of your data (vqa, detect, ...); default: what the first sample is for"),
    ] = "",
    suite: Annotated[
        str,
        typer.Option(
            help="Run many benchmarks: nano, mini, pages; paper, screens: official data sets under --data"
        ),
    ] = "",
    split: Annotated[
        EvalSplit,
        typer.Option(help="heldout: samples of score cards; dev: others, for decisions while training"),
    ] = "heldout",
    model: Model = "nano",
    engine: Engine = "torch",
    dtype: Dtype = "fp32",
    device: Device = "cpu",
    data: DataRoot = None,
    limit: Annotated[
        int | None, typer.Option(help="Score only the first N samples; train probes on N", min=1)
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Samples per batch; with torch it changes no answer", min=1)] = 32,
    frames: Frames = None,
    stride: Stride = None,
    ocr: Annotated[
        str,
        typer.Option(help="Add OCR text to the prompt: tesseract (or tesseract:eng+deu), rapidocr, nano, or JSON"),
    ] = "",
    file: Annotated[Path | None, typer.Option("--json", help="Write the score card to this file")] = None,
    save_predictions: Annotated[
        Path | None, typer.Option(help="Save the answers to this file, and resume from the answers in it")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report to this file")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for a suite's cards, answers and HTML reports")] = None,
) -> None:
    """Score a model; print the scores and write a score card that records how they were measured."""
    from openpali.data.sources.registry import RECORDS, check_source
    from openpali.extensions import option

    if benchmark == "diff":
        for line in option("eval diff")(cards or []):
            typer.echo(line)
        return
    if cards:
        raise ValueError(f"{str(cards[0])!r} beside {benchmark!r}: eval scores one benchmark, or all of a --suite")
    if bool(benchmark) == bool(suite):
        raise UsageError("name one benchmark or one --suite")
    if suite and (file or save_predictions or report):
        raise ValueError("a suite writes all of its files to one folder: use --out DIR")
    if benchmark and out:
        raise ValueError("--out is for suites: for one benchmark use --json, --save-predictions and --report")
    if suite and task:
        raise ValueError("--task is for your own data: the benchmarks of a suite have their tasks")
    if Path(benchmark).suffix in RECORDS:
        check_source(benchmark)
    check_writable(file, save_predictions, report, out and out / "table.md")
    check_model(model)
    from openpali.distributed import join_ranks
    from openpali.eval.registry import benchmarks, find_benchmark, on_split
    from openpali.eval.runner import run
    from openpali.eval.suites import find_suite, run_suite
    from openpali.eval.test_log import record
    from openpali.home import home
    from openpali.reports.progress import progress_bar
    from openpali.reports.suite_table import write_run

    own, sampled = not suite and benchmark not in benchmarks(), sampling(frames, stride)
    if sampled and not own:
        raise ValueError(f"--{next(iter(sampled))} is for your own data: benchmarks say which frames they show")
    chosen = find_suite(suite, split) if suite else [find_benchmark(benchmark, task, sampled)]
    if split != "heldout" and not suite:
        chosen = [on_split(chosen[0], split)]
    for written in filter(None, (file, report) if own else ()):
        check_not_input(written, benchmark)
    root = Path.cwd() if own else data or home() / "data"
    reader = option("eval --ocr")(ocr) if ocr else None
    with join_ranks() as ranks, progress_bar(quiet=ranks.rank > 0) as watch:
        pali = open_pali(model, engine, dtype, device)
        if suite:
            outcomes = list(
                run_suite(
                    chosen,
                    pali,
                    root,
                    out=out,
                    limit=limit,
                    batch=batch_size,
                    ocr=reader,
                    ranks=ranks,
                    watch=watch,
                    finished=(lambda done: write_run(done, out)) if out else lambda done: None,
                )
            )
        else:
            done = run(
                chosen[0],
                pali,
                root,
                limit=limit,
                batch=batch_size,
                predictions=save_predictions,
                ocr=reader,
                ranks=ranks,
                watch=watch(chosen[0].name),
            )
    if ranks.rank > 0:
        return
    for scored, card in [(o.benchmark, o.card) for o in outcomes] if suite else [(chosen[0], done.card)]:
        if card is not None:
            record(scored, card.n, card.model["hash"], card.scores[card.metric])
    if suite:
        _print_suite(suite, outcomes, root, out)
    else:
        print_run(done, file, report)


def _print_suite(name: str, outcomes: list[Outcome], root: Path, out: Path | None) -> None:
    from rich.console import Console

    from openpali.reports.suite_table import as_markdown, render

    for outcome in outcomes:
        if outcome.problem:
            typer.echo(f"not run: {outcome.benchmark.name}: {outcome.problem}")
    if all(outcome.card is None for outcome in outcomes):
        raise ValueError(
            f"no benchmark of the suite {name} can run with this model on {root}: `openpali data build all` makes "
            "the data of nano, and docs/evaluation.md lists the files of the others"
        )
    Console().print(render(outcomes))
    if out is not None:
        (out / "table.md").write_text(as_markdown(outcomes), "utf-8")
        typer.echo(f"cards, answers, reports and table.md written to {out}")


def print_run(done: Run, file: Path | None, report: Path | None, fewest: int = 0) -> None:
    """Print the scores of a run; write its card and its report, each if there is a file for it.

    Args:
        fewest: samples, below which no score is printed.
    """
    from openpali.reports.eval_page import write_report

    card = done.card
    if card.n < fewest:
        typer.echo(f"{card.n} samples are too few for a score: {fewest} or more are needed")
    for name, value in card.scores.items() if card.n >= fewest else ():
        typer.echo(f"{name:20} {value:.4f}")
    typer.echo(f"{card.n} samples in {card.model['dtype']}, {card.seconds:.0f} s")
    if card.limited:
        typer.echo(card.limited)
    if file is not None:
        card.write(file)
    if report is not None:
        write_report(done, report)
    if written := ", ".join(str(each) for each in (file, report) if each is not None):
        typer.echo(f"written: {written}")
