"""Progress of an evaluation on stderr: a bar in a terminal, elsewhere plain lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from openpali.eval.benchmark import Advance, unwatched
from openpali.progress import Lines

Start = Callable[[str], Advance]
"""Begins to show work by its name, such as a benchmark; what it returns is called with done and total."""


@contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[Start]:
    """Show one piece of work at a time.

    Args:
        quiet: show nothing; for all ranks but rank 0.
    """
    console = Console(stderr=True)
    if quiet:
        yield lambda name: unwatched
    elif not console.is_terminal:
        yield _lines
    else:
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), transient=True, console=console) as progress:

            def start(name: str) -> Advance:
                for old in progress.task_ids:
                    progress.remove_task(old)
                bar = progress.add_task(name, total=None)
                return lambda done, total: progress.update(bar, completed=done, total=total)

            yield start


def _lines(name: str) -> Advance:
    lines = Lines(name)
    return lambda done, total: lines.update(done, total, last=done == total)
