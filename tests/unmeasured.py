"""What tiny runs leave out, in tests and in the processes that tests start."""

from __future__ import annotations

from collections.abc import Callable

import openpali.train.monitor as monitor_module
import openpali.train.trainer as trainer_module


def leave_out(patch: Callable[[object, str, object], None] = setattr) -> None:
    """Boards take seconds of imports, the peak of the machine a third of a second, FLOPs a tenth of a run."""
    patch(trainer_module, "matmul_peak", lambda *_: 1e12)
    patch(trainer_module, "count_flops", lambda step: (step(), 1e6)[1])
    patch(monitor_module, "_tensorboard", lambda *_: None)
