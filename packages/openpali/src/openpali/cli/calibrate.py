"""``openpali calibrate``: fit and store the confidence of answers, and the OOD detector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openpali.cli.options import DataRoot, Device, Frames, Stride, sampling
from openpali.cli.outputs import check_writable

if TYPE_CHECKING:
    from openpali.data.sources.base import Source
    from openpali.eval.benchmark import Benchmark
    from openpali.infer.pali import Pali


def calibrate(
    model: Annotated[
        str, typer.Argument(help="A model folder, a bundle of models, or a finished run; it is changed")
    ],
    file: Annotated[
        str, typer.Argument(help="Your data that the model was not trained on (JSONL, shards, Parquet)")
    ] = "",
    task: Annotated[str, typer.Option(help="Task of your data; default: what the first sample is for")] = "",
    suite: Annotated[
        str,
        typer.Option(
            help="Without your data: samples like those of this suite: nano, pages or mini; default: nano"
        ),
    ] = "",
    frames: Frames = None,
    stride: Stride = None,
    device: Device = "cpu",
    data: DataRoot = None,
    limit: Annotated[int | None, typer.Option(help="Fit on the first N samples of each task", min=1)] = None,
    batch_size: Annotated[int, typer.Option(help="Samples per batch; with torch it changes no answer", min=1)] = 32,
) -> None:
    """Fit and store a model's confidence and its out-of-distribution detector."""
    from openpali.cli.models import open_pali
    from openpali.eval.benchmark import own_benchmark
    from openpali.eval.calibrate import fit_first
    from openpali.eval.suites import find_suite
    from openpali.home import home
    from openpali.weights.files import CONFIG, MASKS
    from openpali.weights.find import find_model
    from openpali.weights.hub import SCHEME

    sampled = sampling(frames, stride)
    if not file and (given := ["task"] * bool(task) + [*sampled]):
        raise ValueError(f"--{given[0]} is for your own data: name its file")
    if suite and file:
        raise ValueError("--suite is for a model without your data: leave it out, or the file")
    if model.startswith(SCHEME):
        raise ValueError(
            f"{model} is in a cache that others read, too: copy it, as with `cp -rL {find_model(model)} mine`, and "
            "calibrate the copy"
        )
    suite = suite or "nano"
    benchmarks = [own_benchmark(file, task, sampled)] if file else find_suite(suite)
    pali, root = open_pali(model, "torch", "fp32", device), data or home() / "data"
    check_writable(*(folder / CONFIG for part, folder in pali.parts.items() if part != MASKS))
    for fitted in fit_first(benchmarks, pali):
        typer.echo(fitted)
    fit_detector(benchmarks, pali, root, limit)  # which needs no answers, right or wrong
    if not fit_confidence(benchmarks, pali, root, limit, batch_size):
        raise ValueError(f"nothing to fit: {model} answers no task of {file or f'the suite {suite}'}")


def fit_confidence(
    benchmarks: Sequence[Benchmark], pali: Pali, root: Path, limit: int | None = None, batch: int = 32
) -> int:
    """Fit and store the confidence of a model, and print what was fitted for each task; returns how many were."""
    from openpali.eval.calibrate import calibrate as fit
    from openpali.reports.progress import progress_bar

    with progress_bar() as watch:
        fitted = list(fit(benchmarks, pali, root, limit=limit, batch=batch, watch=watch))
    for each in fitted:
        names = len(each.calibration.offsets)
        roles = f", and one for each of {names} roles" if names else ""
        typer.echo(
            f"{each.part}, {each.task}: temperature {each.calibration.temperature:.3f}, offset "
            f"{each.calibration.offset:.3f}{roles}; of {each.claims:,} answers {100 * each.right:.1f} % right"
        )
    return len(fitted)


def fit_detector(
    benchmarks: Sequence[Benchmark],
    pali: Pali,
    root: Path,
    limit: int | None = None,
    trained_on: Source | None = None,
) -> None:
    """Fit and store the detector of out-of-distribution images of each part, and print on how many."""
    from openpali.eval.calibrate import OOD_IMAGES, calibrate_ood

    most = min(limit or OOD_IMAGES, OOD_IMAGES)
    for part, images in calibrate_ood(benchmarks, pali, root, limit=most, trained_on=trained_on):
        typer.echo(f"{part}: OOD detector fitted on {images:,} images")
