"""Progress of long work: a display that moves in a terminal; elsewhere plain lines, as for a log file."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TextIO

from rich.console import Console
from rich.markup import escape

from openpali.messages import duration

PERIOD = 10.0  # seconds from one plain line to the next

Say = Callable[[str], None]
Working = Callable[[str], AbstractContextManager[None]]
"""Shows what is being done, while it is being done: :func:`working`, or :func:`unseen`."""


def say_line(text: str, stream: TextIO | None = None) -> None:
    """Write a line, by default to stderr, and flush it."""
    print(text, file=stream or sys.stderr, flush=True)


class Lines:
    """Counted work as plain lines: at once, then at most one every :data:`PERIOD` seconds, and at the end.

    Args:
        name: of the work.
        say: takes a line.
    """

    def __init__(self, name: str, say: Say = say_line) -> None:
        self.name, self.say = name, say
        self._first: tuple[int, float] | None = None  # count and time of the first update
        self._said = 0.0

    def update(self, done: int, total: int, text: str = "", *, last: bool = False) -> None:
        """Tell how much is done; ``text`` follows, and ``last`` writes the line whatever the time."""
        now = time.monotonic()
        before, began = self._first = self._first or (done, now)
        if self._said and not last and now - self._said < PERIOD:
            return
        self._said = now
        left = duration((now - began) / (done - before) * (total - done)) + " left" if before < done < total else ""
        self.say(f"{self.name}: {', '.join(filter(None, [f'{done:,} of {total:,} samples', text, left]))}")


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
def heartbeat(what: str, say: Say = say_line) -> Iterator[None]:
    """Say every :data:`PERIOD` seconds that ``what`` goes on."""
    began = time.monotonic()
    with repeating(PERIOD, lambda: say(f"{what}: {duration(time.monotonic() - began)} so far")):
        yield


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show on stderr that ``what`` is being done: a spinner in a terminal, elsewhere a line and a heartbeat."""
    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(escape(what)):
            yield
        return
    say_line(what)
    with heartbeat(what):
        yield


@contextmanager
def unseen(what: str) -> Iterator[None]:
    """A :data:`Working` that shows nothing."""
    yield
