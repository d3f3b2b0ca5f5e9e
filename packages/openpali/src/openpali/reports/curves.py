"""Draw the training curves of a run, from its ``metrics.jsonl``."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from openpali.messages import cannot_import
from openpali.weights.files import METRICS

Row = Mapping[str, Any]

PANELS: Mapping[str, Callable[[Row], Mapping[str, float]]] = {
    "optimised loss": lambda row: {"loss": row["loss"]} if "loss" in row else {},
    "loss per source": lambda row: row["losses"],
    "other values": lambda row: {**row["extra"], "gradient norm": row.get("gradient_norm", math.nan)},
    "samples per second": lambda row: {"samples/s": row["samples_per_second"]},
    "peak memory, GB": lambda row: {"of any rank": row["memory"] / 1e9},
    "share of time waiting for data": lambda row: {"waiting": row["data_wait"]},
}

HELD_OUT: Mapping[str, Callable[[Row], Mapping[str, float]]] = {  # of evaluations, which have rows of their own
    "held-out scores": lambda row: {
        f"{row['eval']}/{name} / 100" if "cider" in name else f"{row['eval']}/{name}": _fraction(name, value)
        for name, value in row["scores"].items()
        if _is_score(row, name)
    },
    "held-out loss": lambda row: {row["eval"]: row["scores"]["loss"]} if "loss" in row["scores"] else {},
}


def draw_curves(run: Path, path: Path | None = None) -> Path:
    """Draw a run's loss, loss per source, other values, speed and memory over the number of samples.

    Below them stand the held-out scores and losses of its evaluations, if it has any.

    Args:
        path: the image file to write, which is returned; by default ``curves.png`` in the run folder.
    """
    rows = read_metrics(run)
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError(cannot_import("curves need matplotlib", "openpali[train]", error)) from error
    evaluations = [row for row in rows if "eval" in row]
    reports = [row for row in rows if "eval" not in row]
    drawn = [(title, values, reports, "") for title, values in PANELS.items()]
    if evaluations:
        drawn += [(title, values, evaluations, ".") for title, values in HELD_OUT.items()]
    lines = len(drawn) // 2
    figure = Figure(figsize=(12, 4 * lines), layout="constrained")
    for panel, (title, values, those, marker) in zip(figure.subplots(lines, 2).flat, drawn, strict=True):
        for name in sorted({name for row in those for name in values(row)}):
            points = [(row["samples"], values(row)[name]) for row in those if name in values(row)]
            panel.plot(*zip(*points, strict=True), label=name, linewidth=1, marker=marker)
        panel.set_xlabel("samples")
        panel.set_title(title)
        if panel.lines:
            panel.legend(fontsize="small")
    path = path or run / "curves.png"
    figure.savefig(
        path, dpi=100, format=path.suffix[1:] or "png"
    )  # without format, matplotlib adds an ending to a name that has none
    return path


def _fraction(name: str, value: float) -> float:
    """A score in the range of all others: CIDEr is the one that is times 100."""
    return value / 100 if "cider" in name else value


def _is_score(row: Row, name: str) -> bool:
    """Whether a score is of all samples, and not the loss or of a slice."""
    return bool(name == row["metric"] or (name != "loss" and "/" not in name))


def read_metrics(run: Path) -> list[Row]:
    """Reports and evaluations of a run, without an incomplete last line, as a killed run leaves it."""
    metrics = run / METRICS
    if not metrics.is_file():
        raise FileNotFoundError(f"{run} has no curves to draw: it has no {METRICS}")
    rows: list[Row] = []
    lines = metrics.read_bytes().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise ValueError(f"{metrics}:{number} is not valid JSON: {error}") from error
    return rows
