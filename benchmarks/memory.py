"""Memory over a training run: its peak at the end beside the peak after half of the samples.

    openpali study recipes/study/table1.toml --job 0        # or any run of `openpali train`
    python benchmarks/memory.py ~/.cache/openpali/runs/table1/nano-1/classify --json memory.json --image memory.png

The trainer reports the peak of memory so far, of the rank that has most. A leak lets it grow to the end; in the
first half, caches fill and a run may change its resolution.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from _report import Result, cost, machine, report
from openpali.reports.curves import read_metrics

TARGET = 1.02  # most growth that counts as flat


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs")
    parser.add_argument("--image", type=Path, help="a plot of memory over samples")
    parser.add_argument("--json", type=Path, dest="file")
    options = parser.parse_args()
    series = {"/".join(run.resolve().parts[-2:]): memory(run) for run in options.runs}
    if empty := [name for name, points in series.items() if not points]:
        parser.error(f"no memory is logged yet in {', '.join(empty)}")
    report((growth(name, points) for name, points in series.items()), machine(), options.file)
    if options.image:
        draw(series, options.image)


def memory(run: Path) -> list[tuple[int, float]]:
    """Samples seen and peak memory in GB, since the run's last start."""
    points: list[tuple[int, float]] = []
    for row in read_metrics(run):
        if "memory" not in row:  # an evaluation
            continue
        peak = row["memory"] / 1e9
        if points and peak < points[-1][1]:  # another process
            points = []
        points.append((row["samples"], peak))
    return points


def growth(name: str, points: Sequence[tuple[int, float]]) -> Result:
    last, end = points[-1]
    first, begin = next((samples, peak) for samples, peak in points if samples >= (points[0][0] + last) / 2)
    what = f"{name}: peak memory after {last:,} samples"
    return cost(what, end, begin, f"after {first:,} samples (target {1 / TARGET:.2f})", "GB")


def draw(series: dict[str, list[tuple[int, float]]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots()
    for name, points in series.items():
        axes.plot(*zip(*points, strict=True), label=name)
    axes.set(xlabel="samples", ylabel="peak memory, GB", ylim=(0, None))
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
