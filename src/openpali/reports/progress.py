"""Progress bars of an evaluation, in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from openpali.eval.cards import show
from openpali.eval.datasets.base import Benchmark
from openpali.eval.evaluators import Watch


@contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[Callable[[Benchmark], Watch]]:
    """Show one bar at a time, with its benchmark's score so far.

    Args:
        quiet: show nothing; for all ranks but rank 0.

    Yields:
        A function that starts the bar of a benchmark, and returns the function that moves it.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[score]}"),
    )
    with Progress(*columns, transient=True, disable=quiet) as progress:

        def start(benchmark: Benchmark) -> Watch:
            for old in progress.task_ids:
                progress.remove_task(old)
            bar = progress.add_task(benchmark.name, total=None, score="")

            def watch(done: int, total: int, scores: Mapping[str, float]) -> None:
                name = benchmark.metric
                score = f"{name} {show(name, scores[name])} so far" if name in scores else ""
                progress.update(bar, completed=done, total=total, score=score)

            return watch

        yield start
