"""The plot of a study: differences with their intervals, beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from openpali.messages import cannot_import
from openpali.whole import replacing
from openpali_lab.study.spec import Study
from openpali_lab.study.table import TOO_LOW, Row, counted_seeds


def draw_table(study: Study, rows: Sequence[Row], file: Path) -> None:
    """Draw the difference of each column with its interval, for each size and arm, and the paper's, as PNG."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError(cannot_import("the plot of a study needs matplotlib", "openpali[train]", error)) from error
    names = list(dict.fromkeys(row.column.name for row in rows))
    series = [
        (size, arm)
        for arm in study.arms
        for size in study.sizes
        if any(row.size == size and arm in row.differences for row in rows)
    ]
    height = 0.2 + 0.15 * len(series)  # of a column, inches
    figure = Figure(figsize=(7, 1.5 + height * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="grey", linewidth=1)
    for number, (size, arm) in enumerate(series):
        own = [row for row in rows if row.size == size and arm in row.differences]
        found = [row.differences[arm] for row in own]
        axes.errorbar(
            [each.value for each in found],
            [names.index(row.column.name) + 0.8 * (number + 0.5) / len(series) for row in own],
            xerr=[[each.value - each.low for each in found], [each.high - each.value for each in found]],
            fmt="o",
            label=f"{arm}, {size}, {counted_seeds(study, own, arm)}",
        )
    if marks := {row.column.name: row.column.paper[1] for row in rows if row.column.paper}:
        places = [float(names.index(name)) for name in marks]
        axes.plot([*marks.values()], places, "D", color="black", fillstyle="none", label="paper")
    clear = {row.column.name for row in rows if row.sign(study) != TOO_LOW}
    axes.set_yticks(
        [place + 0.4 for place in range(len(names))],
        [name if name in clear else f"{name}: {TOO_LOW}" for name in names],
    )
    axes.set_ylim(len(names) - 0.1, -0.1)
    axes.set_xlabel(f"difference to {study.baseline}\npercent (CIDEr on its own scale)")
    axes.legend(fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    with replacing(file) as new:
        figure.savefig(new, format="png", dpi=100)
