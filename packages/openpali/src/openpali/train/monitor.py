"""What a run measures and shows: reports on the console, in ``metrics.jsonl`` and in TensorBoard."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from openpali.progress import Counted, heartbeat, plain_console
from openpali.train.evals import Evaluated
from openpali.train.objectives.base import Losses
from openpali.train.recipe import Recipe
from openpali.weights.files import METRICS


@dataclass(frozen=True)
class Report:
    """Values since the previous report.

    Attributes:
        samples, step: since the start of the run.
        loss: what is optimised; mean over steps.
        losses: per source; mean over samples. SigLIP's is the share of images to which another text of their rank's
            micro-batch is nearer than their own.
        extra: further values of the objective, of the last micro-batch of rank 0.
        gradient_norm: global norm before clipping; mean over steps.
        data_wait: share of the time spent waiting for data, 0..1.
        memory: peak bytes of any rank so far: on its GPU, or else of its process.
        drawn: samples of each source since the start of the run.
        bad: samples that could not be used, since the start of the run.
    """

    samples: int
    step: int
    loss: float
    losses: Mapping[str, float]
    extra: Mapping[str, float]
    gradient_norm: float
    samples_per_second: float
    data_wait: float
    learning_rate: float
    memory: int
    drawn: Mapping[str, int]
    bad: int


@dataclass
class Window:
    """Sums over the steps since the previous report, of this rank. Only :meth:`settle` reads losses."""

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

    def settle(self) -> None:
        """Read the losses of all micro-batches, for which the host waits."""
        for names, losses in self.unread:
            for name, loss in zip(names, losses.per_row.tolist(), strict=True):
                total, rows = self.sums.get(name, (0.0, 0))
                self.sums[name] = total + loss, rows + 1
            self.total += losses.total.item()
        self.unread.clear()

    @property
    def state(self) -> dict[str, Any]:
        """The part that a checkpoint keeps."""
        self.settle()
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


class Progress:
    """Shows and records reports; does nothing on ranks other than 0 (``active`` False).

    In a terminal it shows a bar, elsewhere plain lines, with loss and speed of the last report.
    """

    def __init__(self, recipe: Recipe, run: Path, samples: int, *, active: bool) -> None:
        self.active, self.run, self.samples, self.total = active, run, samples, recipe.samples
        self.console = plain_console(quiet=not active)
        self.counted, self.latest = Counted(self.console, transient=False), ""
        self.counted.start(recipe.name)
        self.board = _tensorboard(run, samples) if active else None

    def __enter__(self) -> Progress:
        self.counted.__enter__()
        self.advance(self.samples)
        return self

    def __exit__(self, *_: object) -> None:
        self.counted.__exit__()
        if self.board is not None:
            with suppress(OSError):  # the report that met a full disk has raised
                self.board.close()

    def say(self, text: str) -> None:
        """Print a line, in a terminal above the bar, on rank 0."""
        self.console.print(text)

    def advance(self, samples: int, *, last: bool = False) -> None:
        """Show how far the run is."""
        self.samples = samples
        self.counted.update(samples, self.total, self.latest, last=last)

    @contextmanager
    def evaluating(self, name: str) -> Iterator[None]:
        """Show that an evaluation runs."""
        what = f"evaluating {name} at sample {self.samples:,}"
        if not self.active:
            yield
        elif self.console.is_terminal:
            self.counted.update(self.samples, self.total, what)
            yield
            self.advance(self.samples)
        else:
            with heartbeat(what, self.say):
                yield

    def report(self, report: Report) -> None:
        """Show and record one report."""
        if not self.active:
            return
        self.latest = f"loss {report.loss:.4f}, {report.samples_per_second:.0f} samples/s"
        self.advance(report.samples, last=report.samples == self.total)
        scalars = {
            "loss": report.loss,
            **{f"loss/{name}": value for name, value in report.losses.items()},
            **report.extra,
            **{f"drawn/{name}": count for name, count in report.drawn.items()},
            **{name: value for name, value in asdict(report).items() if name in _SCALARS},
        }
        self._record(report, scalars)

    def note_scores(self, found: Evaluated) -> None:
        """Show and record the scores of an evaluation."""
        if not self.active:
            return
        shown = {name: value for name, value in found.scores.items() if found.is_plain(name)}
        values = ", ".join(f"{name} {value:.4f}" for name, value in shown.items())
        about = f"{found.n:,} samples in {found.precision}, {found.seconds:.0f} s"
        self.say(f"{found.eval} at sample {found.samples:,}: {values} ({about})")
        self._record(found, {f"eval/{found.eval}/{name}": value for name, value in found.scores.items()})

    def _record(self, row: Report | Evaluated, scalars: Mapping[str, float]) -> None:
        with (self.run / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")
        if self.board is not None:
            for name, value in scalars.items():
                self.board.add_scalar(name, value, row.samples)


_SCALARS = "gradient_norm", "samples_per_second", "data_wait", "memory", "learning_rate", "bad"


def _tensorboard(run: Path, samples: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # the extra [train] is not installed
        return None
    return SummaryWriter(run / "tensorboard", purge_step=samples + 1)
