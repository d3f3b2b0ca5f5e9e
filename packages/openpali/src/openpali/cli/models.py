"""Models as verbs name them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from openpali.infer.engines.registry import Dtype, EngineName
from openpali.weights.find import find_model
from openpali.weights.hub import SCHEME

if TYPE_CHECKING:
    from openpali.infer.pali import Pali


def open_pali(
    model: str,
    engine: EngineName,
    dtype: Dtype,
    device: str,
) -> Pali:
    """As :meth:`Pali.from_pretrained`; also a checkpoint of a run, see :func:`written`."""
    check_model(model)
    from openpali.infer.pali import Pali

    return Pali.from_pretrained(written(model), engine, dtype, device)


def wait_passively() -> None:
    """Let torch's threads sleep while they wait, where the user does not say otherwise: spinning, they take the CPU
    from what they wait for on a busy machine. Call it before torch is imported, which reads this once."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def check_model(model: str) -> None:
    """Check that a model is here, before torch is imported; those of a hub are looked for when they are opened."""
    if not model.startswith(SCHEME) and not _is_checkpoint(model):
        find_model(model)


def written(model: str) -> str:
    """The name of a model as it is; of a checkpoint of a run, the model folder, which it writes."""
    if not _is_checkpoint(model):
        return model
    from openpali.train.snapshot import export_checkpoint  # slow to import

    folder = export_checkpoint(Path(model))
    typer.echo(f"{model}: its model is {folder}", err=True)
    return str(folder)


def _is_checkpoint(model: str) -> bool:
    return (Path(model) / "state.json").is_file()
