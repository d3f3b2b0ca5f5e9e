"""What tiny runs leave out, in tests and in the processes that tests start."""

from __future__ import annotations

from collections.abc import Callable

import openpali.train.watch as watch_module


def leave_out(patch: Callable[[object, str, object], None] = setattr) -> None:
    """Boards take seconds of imports."""
    patch(watch_module, "_tensorboard", lambda *_: None)
