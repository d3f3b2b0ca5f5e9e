"""Progress of an evaluation on stderr: a bar in a terminal, elsewhere plain lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from openpali.eval.benchmark import Benchmark
from openpali.eval.evaluators import Watch, unwatched
from openpali.eval.scales import show
from openpali.progress import Lines

Start = Callable[[Benchmark], Watch]
"""Begins to show a benchmark, and returns the function that is told how far it is."""


@contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[Start]:
    """Show one benchmark at a time, with its score so far.

    Args:
        quiet: show nothing; for all ranks but rank 0.
    """
    console = Console(stderr=True)
    if quiet:
        yield lambda benchmark: unwatched
    elif console.is_terminal:
        with _bars(console) as start:
            yield start
    else:
        yield _lines


@contextmanager
def count_samples(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show work that has no scores; call what it yields with the number of samples that are done."""
    with progress_bar() as start:
        watch = start(Benchmark(name=name, title="", split="", metric=""))
        yield lambda done: watch(done, total, {})


@contextmanager
def _bars(console: Console) -> Iterator[Start]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[score]}"),
    )
    with Progress(*columns, transient=True, console=console) as progress:

        def start(benchmark: Benchmark) -> Watch:
            for old in progress.task_ids:
                progress.remove_task(old)
            bar = progress.add_task(benchmark.name, total=None, score="")

            def watch(done: int, total: int, scores: Mapping[str, float]) -> None:
                progress.update(bar, completed=done, total=total, score=_so_far(benchmark, scores))

            return watch

        yield start


def _lines(benchmark: Benchmark) -> Watch:
    lines = Lines(benchmark.name)

    def watch(done: int, total: int, scores: Mapping[str, float]) -> None:
        lines.update(done, total, _so_far(benchmark, scores), last=done == total)

    return watch


def _so_far(benchmark: Benchmark, scores: Mapping[str, float]) -> str:
    name = benchmark.metric
    return f"{name} {show(name, scores[name])} so far" if name in scores else ""
