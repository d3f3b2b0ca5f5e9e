"""Progress of long work: a display that moves in a terminal; elsewhere plain lines, as for a log file."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from openpali.messages import duration

PERIOD = 10.0  # seconds from one plain line to the next
SPEED_PERIOD = 7200.0  # seconds of updates from which a bar estimates the remaining time; it takes two updates

Show = Callable[[str], None]
Working = Callable[[str], AbstractContextManager[None]]
"""Shows what is being done, while it is being done: :func:`working`, or :func:`unseen`."""


def plain_console(**options: Any) -> Console:
    """A console that prints lines of text as they are, and flushes each."""
    return Console(markup=False, emoji=False, highlight=False, soft_wrap=True, **options)


class _Bars(Progress):
    below: RenderableType | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.below is not None:
            yield self.below


class Counted:
    """Shows counted work: a bar in a terminal; elsewhere lines, at once, then at most one every :data:`PERIOD`
    seconds, and at the end.

    Args:
        console: by default on stderr.
        transient: the bar goes away at the end.
    """

    def __init__(self, console: Console | None = None, *, transient: bool = True) -> None:
        self.console = console or plain_console(stderr=True)
        self.bar = _Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            console=self.console,
            transient=transient,
            expand=True,
            speed_estimate_period=SPEED_PERIOD,
            disable=self.console.quiet or not self.console.is_terminal,
        )

    def __enter__(self) -> Counted:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def start(self, name: str) -> None:
        """Show other work from now on."""
        for task in self.bar.task_ids:
            self.bar.remove_task(task)
        self.name, self.task = name, self.bar.add_task(name, total=None, text="")
        self._first: tuple[int, float] | None = None  # count and time of the first update
        self._shown = 0.0

    def update(self, done: int, total: int, text: str = "", *, last: bool = False) -> None:
        """Show how much is done; ``text`` follows, and ``last`` writes the line whatever the time."""
        self.bar.update(self.task, completed=done, total=total, text=text)
        now = time.monotonic()
        before, began = self._first = self._first or (done, now)
        if self.console.is_terminal or (self._shown and not last and now - self._shown < PERIOD):
            return
        self._shown = now
        left = duration((now - began) / (done - before) * (total - done)) + " left" if before < done < total else ""
        self.console.print(
            f"{self.name}: {', '.join(filter(None, [f'{done:,} of {total:,} samples', text, left]))}"
        )


@contextmanager
def repeating(seconds: float, do: Callable[[], None]) -> Iterator[None]:
    """Call ``do`` every so many seconds, in a thread of its own."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(seconds):
            do()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def heartbeat(what: str, show: Show) -> Iterator[None]:
    """Show every :data:`PERIOD` seconds that ``what`` goes on."""
    began = time.monotonic()
    with repeating(PERIOD, lambda: show(f"{what}: {duration(time.monotonic() - began)} so far")):
        yield


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show on stderr that ``what`` is being done: a spinner in a terminal, elsewhere a line and a heartbeat."""
    console = plain_console(stderr=True)
    if console.is_terminal:
        with console.status(escape(what)):
            yield
        return
    console.print(what)
    with heartbeat(what, console.print):
        yield


@contextmanager
def unseen(what: str) -> Iterator[None]:
    """A :data:`Working` that shows nothing."""
    yield
