"""``openpali calibrate``: fit and store how sure a model's answers are, and its OOD detector."""

from __future__ import annotations

from typing import Annotated

import typer

from openpali.cli.options import DataRoot, Device


def calibrate(
    model: Annotated[
        str, typer.Argument(help="A model folder, a family of models, or a finished run; it is changed")
    ],
    file: Annotated[
        str, typer.Argument(help="Your data that the model was not trained on (JSONL, shards, Parquet)")
    ] = "",
    task: Annotated[str, typer.Option(help="Task of your data; default: what the first sample is for")] = "",
    suite: Annotated[
        str, typer.Option(help="Without your data: samples like those of this suite, nano or mini")
    ] = "nano",
    device: Device = "cpu",
    data: DataRoot = None,
    limit: Annotated[int | None, typer.Option(help="Fit on the first N samples of each task", min=1)] = None,
    batch_size: Annotated[int, typer.Option(help="Samples per batch; does not change the answers", min=1)] = 32,
) -> None:
    """Fit a model's confidence and its detector of out-of-distribution images, and store both with it."""
    from openpali.cli.models import open_pali
    from openpali.eval.calibrate import OOD_IMAGES, calibrate_ood
    from openpali.eval.calibrate import calibrate as fit
    from openpali.eval.datasets.base import own_benchmark
    from openpali.eval.suites import find_suite
    from openpali.home import home
    from openpali.reports.progress import progress_bar

    if task and not file:
        raise ValueError("--task is for your own data: name its file")
    benchmarks = [own_benchmark(file, task)] if file else find_suite(suite)
    pali = open_pali(model, "torch", "fp32", device)
    root, fitted = data or home() / "data", []
    with progress_bar() as watch:
        for each in fit(benchmarks, pali, root, limit=limit, batch=batch_size, watch=watch):
            fitted.append(each)
    for each in fitted:
        typer.echo(
            f"{each.part}, {each.task}: temperature {each.calibration.temperature:.3f}, offset "
            f"{each.calibration.offset:.3f}; of {each.claims:,} answers {100 * each.right:.1f} % right"
        )
    for part, images in calibrate_ood(benchmarks, pali, root, limit=min(limit or OOD_IMAGES, OOD_IMAGES)):
        typer.echo(f"{part}: OOD detector fitted on {images:,} images")
    if not fitted:
        raise ValueError(f"nothing to fit: {model} answers no task of {file or f'the suite {suite}'}")
