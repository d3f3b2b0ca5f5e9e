"""The curves of a run as a picture, from its ``metrics.jsonl``."""

from __future__ import annotations

import json
from pathlib import Path


def draw_curves(run: Path) -> Path | None:
    """Draw loss per source and the further values of a run into ``curves.png``; None where nothing was recorded or
    matplotlib (``pip install openpali[train]``) is missing."""
    metrics = run / "metrics.jsonl"
    if not metrics.is_file():
        return None
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    for panel, group in zip(panels, ("losses", "extra"), strict=True):
        for name in sorted({name for row in rows for name in row[group]}):
            points = [(row["samples"], row[group][name]) for row in rows if name in row[group]]
            panel.plot(*zip(*points, strict=True), label=name, linewidth=1)
        panel.set_xlabel("samples")
        panel.set_title(group)
        if panel.lines:
            panel.legend(fontsize="small")
    path = run / "curves.png"
    figure.savefig(path, dpi=100)
    return path
