"""What a run measures and shows: reports on the console, in ``metrics.jsonl``, TensorBoard and Weights & Biases."""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text
from torch import Tensor

from openpali.messages import cannot_import
from openpali.progress import Lines, heartbeat, say_line
from openpali.train.evals import Evaluated
from openpali.train.objectives.base import Losses
from openpali.train.recipe import Recipe
from openpali.weights.files import METRICS

PERIOD = 7200.0  # seconds of reports from which the remaining time is estimated; it takes two reports
HIGH = 1.5  # a loss is high above this many times the median of earlier reports
EARLIER = 20  # most reports in that median; a quarter of them is the least
STAYS = 3  # reports in a row until a high loss is reported


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
        share_of_peak: FLOP/s by those of a large matmul on all ranks, 0..1.
        data_wait: share of the time spent waiting for data, 0..1.
        memory: peak bytes of any rank so far: on its GPU, or else of its process.
        drawn: samples of each source since the start of the run.
        bad: samples that could not be used, since the start of the run.
        skipped: steps whose gradients were not finite, since the start of the run. They have no part in the means.
    """

    samples: int
    step: int
    loss: float
    losses: Mapping[str, float]
    extra: Mapping[str, float]
    gradient_norm: float
    samples_per_second: float
    share_of_peak: float
    data_wait: float
    learning_rate: float
    memory: int
    drawn: Mapping[str, int]
    bad: int
    skipped: int


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
    flops: float = 0.0  # of these steps, on all ranks
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
        first = states[0]
        norms = first.get("norms", 0.0)  # not in checkpoints of early versions
        window = cls(total=sum(s["total"] for s in states), norms=norms, updates=first["updates"])
        for state in states:
            for name, (total, rows) in state["sums"].items():
                before, seen = window.sums.get(name, (0.0, 0))
                window.sums[name] = before + total, seen + rows
        return window


class LossWatch:
    """Notices a loss that stays high: :data:`STAYS` reports in a row above :data:`HIGH` times the median of earlier
    reports that were not high."""

    def __init__(self) -> None:
        self._earlier: deque[float] = deque(maxlen=EARLIER)
        self._high = 0

    def notice(self, loss: float) -> float | None:
        """Take the loss of a report; returns that median once, when the loss has stayed high; otherwise None."""
        if len(self._earlier) < EARLIER // 4 or loss <= HIGH * statistics.median(self._earlier):
            self._earlier.append(loss)
            self._high = 0
            return None
        self._high += 1
        return statistics.median(self._earlier) if self._high == STAYS else None


class Progress:
    """Shows and records reports; does nothing on ranks other than 0 (``active`` False).

    In a terminal it shows a bar above the last report, elsewhere plain lines.
    """

    def __init__(self, recipe: Recipe, run: Path, samples: int, *, active: bool) -> None:
        self.active, self.run, self.samples, self.total = active, run, samples, recipe.samples
        self.bar = Bar(
            TextColumn(recipe.name, style="bold", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            speed_estimate_period=PERIOD,
        )
        self.task = self.bar.add_task("", total=recipe.samples, completed=samples)
        self.live = Live(self.bar, refresh_per_second=2)
        self.shown: list[RenderableType] = []  # below the bar
        self.moving = self.live.console.is_terminal
        self.lines, self.latest = Lines(recipe.name, _print), ""
        self.board = _tensorboard(run, samples) if active else None
        self.wandb = _wandb(recipe, run) if active and recipe.wandb else None

    def __enter__(self) -> Progress:
        if self.active and self.moving:
            self.live.start()
        self.advance(self.samples)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.active and self.moving:
            self.live.stop()
        if self.board is not None:
            with suppress(OSError):  # the report that met a full disk has raised
                self.board.close()
        if self.wandb is not None:
            self.wandb.finish(exit_code=int(error is not None))

    def say(self, text: str) -> None:
        """Print a line, in a terminal above the bar, on rank 0."""
        if self.active and self.moving:
            self.live.console.print(text, markup=False, highlight=False)
        elif self.active:
            _print(text)

    def advance(self, samples: int) -> None:
        """Show how far the run is."""
        self.samples = samples
        self.bar.update(self.task, completed=samples)
        self._update_lines()

    @contextmanager
    def evaluating(self, name: str) -> Iterator[None]:
        """Show that an evaluation runs."""
        what = f"evaluating {name} at sample {self.samples:,}"
        if not self.active:
            yield
        elif self.moving:
            self.live.update(Group(self.bar, *self.shown, Text(what, "dim")))
            yield
            self.live.update(Group(self.bar, *self.shown))
        else:
            with heartbeat(what, _print):
                yield

    def report(self, report: Report) -> None:
        """Show and record one report."""
        if not self.active:
            return
        with (self.run / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(report)) + "\n")
        self._show(report)
        scalars = {
            "loss": report.loss,
            **{f"loss/{name}": value for name, value in report.losses.items()},
            **report.extra,
            **{f"drawn/{name}": float(count) for name, count in report.drawn.items()},
            **{name: getattr(report, name) for name in _SCALARS},
        }
        self._log(scalars, report.samples, report.step)

    def note_scores(self, found: Evaluated) -> None:
        """Show and record the scores of an evaluation."""
        if not self.active:
            return
        with (self.run / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(found)) + "\n")
        shown = {name: value for name, value in found.scores.items() if found.is_plain(name)}
        values = ", ".join(f"{name} {value:.4f}" for name, value in shown.items())
        about = f"{found.n:,} samples in {found.precision}, {found.seconds:.0f} s"
        self.say(f"{found.eval} at sample {found.samples:,}: {values} ({about})")
        scalars = {f"eval/{found.eval}/{name}": value for name, value in found.scores.items()}
        self._log(scalars, found.samples, found.step)

    def _show(self, report: Report) -> None:
        table = Table.grid(padding=(0, 2))
        table.add_column(overflow="fold")
        for name, value in {"loss": report.loss, **report.losses, **report.extra}.items():
            drawn = f"{report.drawn[name]:,} drawn" if name in report.drawn else ""
            table.add_row(name, Text(f"{value:.4f}", no_wrap=True), Text(drawn, no_wrap=True))
        speed = f"{report.samples_per_second:.0f} samples/s"
        values = (
            speed,
            f"{report.share_of_peak:.0%} of matmul peak",
            f"{report.data_wait:.0%} data wait",
            f"{report.memory / 1e9:.1f} GB",
            f"lr {report.learning_rate:.2e}",
            f"gradient {report.gradient_norm:.2e}",
            f"{report.bad} bad",
            *([f"{report.skipped} steps skipped"] if report.skipped else []),
        )
        self.shown = [table, Text(", ".join(values))]
        self.live.update(Group(self.bar, *self.shown))
        self.latest = f"loss {report.loss:.4f}, {speed}"
        self._update_lines(last=report.samples == self.total)

    def _update_lines(self, *, last: bool = False) -> None:
        if self.active and not self.moving:
            self.lines.update(self.samples, self.total, self.latest, last=last)

    def _log(self, scalars: Mapping[str, float], samples: int, step: int) -> None:
        """Send values to TensorBoard and Weights & Biases."""
        if self.board is not None:
            for name, value in scalars.items():
                self.board.add_scalar(name, value, samples)
        if self.wandb is not None:
            self.wandb.log({**scalars, "samples": samples}, step=step)


_SCALARS = (
    *("gradient_norm", "samples_per_second", "share_of_peak", "data_wait"),
    *("memory", "learning_rate", "bad", "skipped"),
)


def _print(line: str) -> None:
    say_line(line, sys.stdout)


def _tensorboard(run: Path, samples: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # the extra [train] is not installed
        return None
    return SummaryWriter(run / "tensorboard", purge_step=samples + 1)


def require_wandb(recipe: Recipe) -> Any:
    """Import Weights & Biases, if the recipe logs there."""
    if not recipe.wandb:
        return None
    try:
        import wandb
    except ImportError as error:
        raise ValueError(
            cannot_import(f"wandb = {recipe.wandb!r} (drop the key to do without) needs wandb", "wandb", error)
        ) from error
    return wandb


def _wandb(recipe: Recipe, run: Path) -> Any:
    """A run of Weights & Biases that a resumed run continues; on disk only, unless ``WANDB_MODE`` is set."""
    wandb = require_wandb(recipe)
    run.mkdir(parents=True, exist_ok=True)
    return wandb.init(
        project=recipe.wandb,
        name=recipe.name,
        id=hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:12],
        resume="allow",
        dir=run,
        config=recipe.model_dump(mode="json"),
        mode=os.environ.get("WANDB_MODE", "offline"),
    )
