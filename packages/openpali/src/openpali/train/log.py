"""What a run measures: a report every few steps, a line of ``metrics.jsonl``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from openpali.train.objectives.base import Losses


@dataclass(frozen=True)
class Report:
    """Values since the previous report."""

    # samples, step: since the start of the run
    samples: int
    step: int
    loss: float  # what is optimised; mean over steps
    # per source; mean over samples. SigLIP's is the share of images to which another text of their rank's micro-
    # batch is nearer than their own
    losses: Mapping[str, float]
    extra: Mapping[str, float]  # further values of the objective, of the last micro-batch of rank 0
    gradient_norm: float  # global norm before clipping; mean over steps
    samples_per_second: float
    data_wait: float  # share of the time spent waiting for data, 0..1
    learning_rate: float
    memory: int  # peak bytes of any rank so far: on its GPU, or else of its process
    drawn: Mapping[str, int]  # samples of each source since the start of the run
    bad: int  # samples that could not be used, since the start of the run


@dataclass
class Window:
    """Sums over the steps since the previous report, of this rank. Only :attr:`state` reads losses."""

    sums: dict[str, tuple[float, int]] = field(default_factory=dict)  # source -> sum of its rows' losses, rows
    total: float = 0.0  # sum over steps of the loss that is optimised
    norms: float = 0.0  # sum over steps of the gradient's norm
    updates: int = 0  # steps in those sums
    extra: dict[str, Tensor] = field(default_factory=dict)
    unread: list[tuple[Sequence[str], Losses]] = field(default_factory=list)  # not yet in those sums
    steps: int = 0  # steps of this process, for its speed
    waited: float = 0.0  # seconds for data
    began: float = field(default_factory=time.perf_counter)

    def add(self, names: Sequence[str], losses: Losses) -> None:
        """Count a micro-batch; ``names`` are the sources of its rows."""
        self.unread.append((names, losses))
        self.extra = losses.extra

    @property
    def state(self) -> dict[str, Any]:
        """The part that a checkpoint keeps, for which the host waits."""
        for names, losses in self.unread:
            for name, loss in zip(names, losses.per_row.tolist(), strict=True):
                total, rows = self.sums.get(name, (0.0, 0))
                self.sums[name] = total + loss, rows + 1
            self.total += losses.total.item()
        self.unread.clear()
        return {"sums": self.sums, "total": self.total, "norms": self.norms, "updates": self.updates}

    @classmethod
    def joined(cls, states: Sequence[Mapping[str, Any]]) -> Window:
        """The window of all ranks, from the :attr:`state` of each."""
        first = states[0]  # norms and updates are equal on all
        window = cls(total=sum(s["total"] for s in states), norms=first["norms"], updates=first["updates"])
        for state in states:
            for name, (total, rows) in state["sums"].items():
                before, seen = window.sums.get(name, (0.0, 0))
                window.sums[name] = before + total, seen + rows
        return window
