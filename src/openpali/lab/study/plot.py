"""The plot of a study: differences with their intervals beside the paper's, and the curve over samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from openpali.lab.study.seeds import Estimate
from openpali.lab.study.spec import Study
from openpali.lab.study.table import ONE_SEED, TOO_LOW, Row, counted_seeds, curve_of, shown_samples
from openpali.whole import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Curves = dict[tuple[str, str], list[tuple[int | None, Estimate]]]
"""(column, size) -> (samples of the encoder, difference)."""


def draw_table(study: Study, rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw the rows of a study into ``table.svg`` and ``table.png``."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("the plot of a study needs matplotlib: pip install 'openpali[train]'") from error
    whole = [row for row in rows if row.samples is None and study.compared in row.differences]
    curves: Curves = {
        (column.name, size): points
        for size in study.sizes
        for column in study.columns
        if len(points := curve_of(study, rows, column.name, size)) > 1
    }
    names = list(dict.fromkeys(row.column.name for row in whole))
    figure = Figure(figsize=(15 if curves else 7, 1.5 + 0.35 * len(names)), layout="constrained")
    left, *right = figure.subplots(1, 1 + bool(curves), squeeze=False).flat
    _draw_differences(left, study, whole, names)
    for panel in right:
        _draw_curves(panel, curves)
    return _save(figure, study, folder)


def _draw_differences(axes: Axes, study: Study, rows: Sequence[Row], names: Sequence[str]) -> None:
    """The difference of each column with its interval, for each size, and the paper's."""
    axes.axvline(0, color="grey", linewidth=1)
    narrow: list[tuple[float, float]] = []  # value and place
    for number, size in enumerate(dict.fromkeys(row.size for row in rows)):
        own = [row for row in rows if row.size == size]
        found = [row.differences[study.compared] for row in own]
        places = [names.index(row.column.name) + 0.2 * (number + 1) for row in own]
        axes.errorbar(
            [each.value for each in found],
            places,
            xerr=[[each.value - each.low for each in found], [each.high - each.value for each in found]],
            fmt="o",
            label=f"{size}, {counted_seeds(study, own)}",
        )
        narrow += [(each.value, y) for row, each, y in zip(own, found, places, strict=True) if row.count(study) < 2]
    if narrow:
        x, y = zip(*narrow, strict=True)
        axes.plot(x, y, "o", color="white", markeredgecolor="black", markersize=4, zorder=3, label=ONE_SEED)
    marks = {row.column.name: row.column.paper[1] for row in rows if row.column.paper}
    places = [names.index(name) for name in marks]
    axes.plot([*marks.values()], places, "D", color="black", fillstyle="none", label="paper")
    told = {row.column.name for row in rows if row.sign(study) != TOO_LOW}
    axes.set_yticks(range(len(names)), [name if name in told else f"{name}: {TOO_LOW}" for name in names])
    axes.invert_yaxis()
    axes.set_xlabel(f"{study.compared} - {study.baseline}\npercent (CIDEr on its own scale)")
    axes.legend(fontsize="small")


def _draw_curves(axes: Axes, curves: Curves) -> None:
    """Differences over the samples of the encoder."""
    from matplotlib import colormaps

    axes.axhline(0, color="grey", linewidth=1)
    axes.set_prop_cycle(color=[colormaps["tab20"](number) for number in range(20)])
    ticks = sorted({at for points in curves.values() for at, _ in points}, key=lambda at: at or math.inf)
    for (name, size), points in curves.items():
        x, y = zip(*((ticks.index(at), each.value) for at, each in points), strict=True)
        axes.plot(x, y, marker="o", label=f"{name}, {size}")
    axes.set_xticks(range(len(ticks)), map(shown_samples, ticks))
    axes.set_xlabel("samples of the encoder")
    axes.legend(fontsize="x-small", loc="upper left", bbox_to_anchor=(1, 1))


def _save(figure: Figure, study: Study, folder: Path) -> list[Path]:
    from matplotlib import rc_context

    files = [folder / f"table.{ending}" for ending in ("svg", "png")]
    with rc_context({"svg.hashsalt": study.name}):  # the same file for the same table
        for file in files:
            metadata = {"Date": None} if file.suffix == ".svg" else {}
            with replacing(file) as new:
                figure.savefig(new, format=file.suffix[1:], dpi=100, metadata=metadata)
    return files
