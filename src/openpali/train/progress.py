"""What a run shows while it goes on: a line for people, ``metrics.jsonl`` for programs, TensorBoard if present."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
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


@dataclass(frozen=True)
class Report:
    """Values since the last report. ``losses`` are per source; shares are fractions 0..1."""

    samples: int
    step: int
    losses: Mapping[str, float]
    extra: Mapping[str, float]
    samples_per_second: float
    share_of_peak: float
    data_wait: float
    learning_rate: float
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
        )
        self.task = self.bar.add_task("", total=recipe.samples, completed=samples)
        self.live = Live(self.bar, refresh_per_second=2)
        self.board = _tensorboard(run, samples) if active else None

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
            self.board.close()

    def report(self, report: Report) -> None:
        """Show and record one report."""
        if not self.active:
            return
        with (self.run / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(report)) + "\n")
        self.bar.update(self.task, completed=report.samples)
        table = Table.grid(padding=(0, 2))
        for name, value in {**report.losses, **report.extra}.items():
            table.add_row(name, f"{value:.4f}")
        table.add_row(
            f"{report.samples_per_second:.0f} samples/s",
            f"{report.share_of_peak:.0%} of matmul peak",
            f"{report.data_wait:.0%} data wait",
            f"lr {report.learning_rate:.2e}",
            f"{report.bad} bad",
        )
        self.live.update(Group(self.bar, table))
        if self.board is not None:
            for name, value in report.losses.items():
                self.board.add_scalar(f"loss/{name}", value, report.samples)
            for name, value in {**report.extra, "samples_per_second": report.samples_per_second}.items():
                self.board.add_scalar(name, value, report.samples)


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
