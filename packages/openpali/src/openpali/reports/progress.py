"""Progress of an evaluation on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from openpali.eval.benchmark import Advance
from openpali.progress import Counted, plain_console

Start = Callable[[str], Advance]
"""Begins to show work by its name, such as a benchmark; what it returns is called with done and total."""


@contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[Start]:
    """Show one piece of counted work at a time.

    Args:
        quiet: show nothing; for all ranks but rank 0.
    """
    with Counted(plain_console(stderr=True, quiet=quiet)) as counted:

        def start(name: str) -> Advance:
            counted.start(name)
            return lambda done, total: counted.update(done, total, last=done == total)

        yield start
