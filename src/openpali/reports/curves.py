"""The curves of a run as a picture, from its ``metrics.jsonl``."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]

PANELS: Mapping[str, Callable[[Row], Mapping[str, float]]] = {
    "what is optimised": lambda row: {"loss": row["loss"]} if "loss" in row else {},
    "by source": lambda row: row["losses"],
    "further values": lambda row: {**row["extra"], "gradient norm": row.get("gradient_norm", math.nan)},
    "samples per second": lambda row: {"samples/s": row["samples_per_second"]},
}


def draw_curves(run: Path, path: Path | None = None) -> Path:
    """Draw loss, values per source, further values and speed of a run, over samples; into ``curves.png`` of its
    folder, or ``path``.

    Raises:
        FileNotFoundError: the run has reported nothing so far.
        ValueError: matplotlib (``pip install openpali[train]``) is missing, or the reports are damaged.
    """
    metrics = run / "metrics.jsonl"
    if not metrics.is_file():
        raise FileNotFoundError(f"no run with curves in {run}: it has no metrics.jsonl")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("curves need matplotlib: pip install 'openpali[train]'") from error
    rows = _reports(metrics)
    figure = Figure(figsize=(12, 8), layout="constrained")
    panels = figure.subplots(2, 2).flat
    for panel, (title, values) in zip(panels, PANELS.items(), strict=True):
        for name in sorted({name for row in rows for name in values(row)}):
            points = [(row["samples"], values(row)[name]) for row in rows if name in values(row)]
            panel.plot(*zip(*points, strict=True), label=name, linewidth=1)
        panel.set_xlabel("samples")
        panel.set_title(title)
        if panel.lines:
            panel.legend(fontsize="small")
    path = path or run / "curves.png"
    figure.savefig(path, dpi=100, format=path.suffix[1:] or "png")  # else its name would get an ending
    return path


def _reports(metrics: Path) -> list[Row]:
    """All reports; a last line that a kill tore is left out, as by a run that goes on."""
    rows: list[Row] = []
    lines = metrics.read_bytes().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise ValueError(f"{metrics}:{number} is no report of a run: {error}") from error
    return rows
