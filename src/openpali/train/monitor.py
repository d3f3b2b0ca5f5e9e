"""What a run shows while it goes on: a line for people, ``metrics.jsonl`` for programs, TensorBoard if present."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from openpali.train.recipe import Recipe

PERIOD = 7200.0  # seconds of reports that the time that is left is guessed from; it takes two of them


@dataclass(frozen=True)
class Report:
    """Values since the last report.

    ``loss`` is what is optimised, the mean over steps; ``losses`` are per source (SigLIP's: the share of pictures
    that find another text of their rank's batch nearer than their own). Shares are fractions 0..1. ``memory`` is
    the most that any rank has held so far, in bytes: on the GPU, or else of the process. ``gradient_norm`` is the
    global norm before clipping, the mean over steps. ``drawn`` counts the samples of each source since the run
    began.
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


class Progress:
    """Shows and records reports; does nothing on ranks other than 0 (``active`` False)."""

    def __init__(self, recipe: Recipe, run: Path, samples: int, *, active: bool) -> None:
        self.active, self.run = active, run
        self.bar = Bar(
            TextColumn(f"[bold]{recipe.name}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            speed_estimate_period=PERIOD,
        )
        self.task = self.bar.add_task("", total=recipe.samples, completed=samples)
        self.live = Live(self.bar, refresh_per_second=2)
        self.board = _tensorboard(run, samples) if active else None
        self.wandb = _wandb(recipe, run) if active and recipe.wandb else None

    def __enter__(self) -> Progress:
        if self.active:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.active:
            self.live.stop()
        if self.board is not None:
            with suppress(OSError):  # a full disk was named where a report met it
                self.board.close()
        if self.wandb is not None:
            self.wandb.finish(exit_code=int(error is not None))

    def say(self, text: str) -> None:
        """Print a line above the bar, on rank 0."""
        if self.active:
            self.live.console.print(text, markup=False, highlight=False)

    def report(self, report: Report) -> None:
        """Show and record one report.

        Raises:
            OSError: it cannot be recorded.
        """
        if not self.active:
            return
        with (self.run / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(report)) + "\n")
        self.bar.update(self.task, completed=report.samples)
        table = Table.grid(padding=(0, 2))
        for name, value in {"loss": report.loss, **report.losses, **report.extra}.items():
            table.add_row(name, f"{value:.4f}", f"{report.drawn[name]:,} drawn" if name in report.drawn else "")
        table.add_row(
            f"{report.samples_per_second:.0f} samples/s",
            f"{report.share_of_peak:.0%} of matmul peak",
            f"{report.data_wait:.0%} data wait",
            f"{report.memory / 1e9:.1f} GB",
            f"lr {report.learning_rate:.2e}",
            f"gradient {report.gradient_norm:.2e}",
            f"{report.bad} bad",
        )
        self.live.update(Group(self.bar, table))
        scalars = {
            "loss": report.loss,
            **{f"loss/{name}": value for name, value in report.losses.items()},
            **report.extra,
            **{f"drawn/{name}": float(count) for name, count in report.drawn.items()},
            **{name: getattr(report, name) for name in _SCALARS},
        }
        if self.board is not None:
            for name, value in scalars.items():
                self.board.add_scalar(name, value, report.samples)
        if self.wandb is not None:
            self.wandb.log({**scalars, "samples": report.samples}, step=report.step)


_SCALARS = (
    "gradient_norm",
    "samples_per_second",
    "share_of_peak",
    "data_wait",
    "memory",
    "learning_rate",
    "bad",
)


def rewind(file: Path, samples: int) -> None:
    """Drop the lines of a log that tell of more than ``samples``: a run that was killed will write them again."""
    if not file.is_file():
        return
    kept = [line for line in file.read_text(encoding="utf-8").splitlines(True) if _samples(line) <= samples]
    rewritten = file.with_name(f".{file.name}")
    rewritten.write_text("".join(kept), encoding="utf-8")
    rewritten.replace(file)


def _samples(line: str) -> float:
    try:
        return float(json.loads(line)["samples"])
    except ValueError:  # the kill came in the middle of the line
        return math.inf


def _tensorboard(run: Path, samples: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # the extra [train] is not installed
        return None
    return SummaryWriter(run / "tensorboard", purge_step=samples + 1)


def _wandb(recipe: Recipe, run: Path) -> Any:
    """A run of Weights & Biases that goes on where it was; written to the disk unless ``WANDB_MODE`` says else."""
    try:
        import wandb
    except ImportError as error:
        raise ValueError(f"wandb = {recipe.wandb!r} needs wandb: pip install wandb, or drop the key") from error
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
