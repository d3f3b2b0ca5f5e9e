"""The plot of a study: differences with their intervals beside the paper's, and the curve over samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from openpali.messages import cannot_import
from openpali.whole import replacing
from openpali_lab.study.seeds import Estimate
from openpali_lab.study.spec import Study
from openpali_lab.study.table import ONE_SEED, TOO_LOW, Row, counted_seeds, curve_of, shown_samples

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


WIDTH = 0.8  # of a row that differences take
Curves = dict[tuple[str, str], list[tuple[int | None, Estimate]]]
"""(column, size) -> (samples of the encoder, difference)."""


def draw_table(study: Study, rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw the rows of a study into ``table.svg`` and ``table.png``."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError(cannot_import("the plot of a study needs matplotlib", "openpali[train]", error)) from error
    whole = [row for row in rows if row.samples is None and study.compared in row.differences]
    curves: Curves = {
        (column.name, size): points
        for size in study.sizes
        for column in study.columns
        if len(points := curve_of(study, rows, column.name, size)) > 1
    }
    names = list(dict.fromkeys(row.column.name for row in whole))
    height = 0.2 + 0.15 * len(_series(study, whole))  # of a row, inches
    figure = Figure(figsize=(15 if curves else 7, 1.5 + max(0.35, height) * len(names)), layout="constrained")
    left, *right = figure.subplots(1, 1 + bool(curves), squeeze=False).flat
    _draw_differences(left, study, whole, names)
    for panel in right:
        _draw_curves(panel, curves)
    return _save(figure, study, folder)


def _draw_differences(axes: Axes, study: Study, rows: Sequence[Row], names: Sequence[str]) -> None:
    """The difference of each column with its interval, for each size and arm, and the paper's."""
    axes.axvline(0, color="grey", linewidth=1)
    narrow: list[tuple[float, float]] = []  # value and place
    sizes, series = list(dict.fromkeys(row.size for row in rows)), _series(study, rows)
    for number, (size, arm) in enumerate(series):
        own = [row for row in rows if row.size == size and arm in row.differences]
        found = [row.differences[arm] for row in own]
        places = [names.index(row.column.name) + WIDTH * (number + 0.5) / len(series) for row in own]
        named = arm if len(sizes) == 1 else size if arm == study.compared else f"{arm}, {size}"
        axes.errorbar(
            [each.value for each in found],
            places,
            xerr=[[each.value - each.low for each in found], [each.high - each.value for each in found]],
            fmt="o",
            label=f"{named}, {counted_seeds(study, own, arm)}",
        )
        single = [row.count(study, arm) < 2 for row in own]
        narrow += [(each.value, y) for one, each, y in zip(single, found, places, strict=True) if one]
    if narrow:
        x, y = zip(*narrow, strict=True)
        axes.plot(x, y, "o", color="white", markeredgecolor="black", markersize=4, zorder=3, label=ONE_SEED)
    if marks := {row.column.name: row.column.paper[1] for row in rows if row.column.paper}:
        places = [float(names.index(name)) for name in marks]
        axes.plot([*marks.values()], places, "D", color="black", fillstyle="none", label="paper")
    told = {row.column.name for row in rows if row.sign(study) != TOO_LOW}
    axes.set_yticks(
        [place + WIDTH / 2 for place in range(len(names))],
        [name if name in told else f"{name}: {TOO_LOW}" for name in names],
    )
    axes.set_ylim(len(names) - 0.1, -0.1)
    compared = study.compared if len(series) == len(sizes) else "arm"
    axes.set_xlabel(f"{compared} - {study.baseline}\npercent (CIDEr on its own scale)")
    axes.legend(fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)


def _series(study: Study, rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Sizes and arms that are drawn: the compared arm first."""
    arms = [study.compared, *(arm for arm in study.arms if arm not in (study.compared, study.baseline))]
    known = {(row.size, arm) for row in rows for arm in row.differences}
    return [(size, arm) for arm in arms for size in study.sizes if (size, arm) in known]


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
