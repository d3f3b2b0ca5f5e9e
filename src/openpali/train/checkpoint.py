"""Checkpoints of a run: complete or invisible, never a pickle.

A checkpoint is a folder ``checkpoints/step-00001234`` with ``model.safetensors``, ``optimizer.safetensors`` and
``state.json``, written under another name, flushed to the disk and renamed. All randomness of a run is a pure
function of its seed and counter, so these are all of its state.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

Json = dict[str, Any]


def save_checkpoint(
    run: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, state: Json, keep: int
) -> Path:
    """Write the checkpoint of ``step``, unless it is there, and drop all but the newest ``keep``.

    Raises:
        OSError: it cannot be written; those before it are untouched.
    """
    folder = run / "checkpoints"
    final = folder / f"step-{step:08d}"
    if not final.is_dir():
        for unfinished in folder.glob(".writing-*"):
            shutil.rmtree(unfinished)
        temporary = folder / f".writing-{final.name}"
        try:
            temporary.mkdir(parents=True)
            save_file({k: v.contiguous() for k, v in model.state_dict().items()}, temporary / "model.safetensors")
            save_file(_optimizer_tensors(model, optimizer), temporary / "optimizer.safetensors")
            (temporary / "state.json").write_text(json.dumps({**state, "step": step}))
            for file in temporary.iterdir():
                _flush(file)
            temporary.rename(final)
            _flush(folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            before = [path.name for path in checkpoints(run)]
            raise OSError(
                f"checkpoint {final} cannot be written ({error}): mend that, and the same command goes on from "
                f"{before[-1] if before else 'the beginning'}"
            ) from error
    for old in checkpoints(run)[:-keep]:
        shutil.rmtree(old)
    return final


def checkpoints(run: Path) -> list[Path]:
    """All complete checkpoints of a run, oldest first."""
    return sorted((run / "checkpoints").glob("step-*"))


def read_state(checkpoint: Path) -> Json:
    """The state saved beside the tensors.

    Raises:
        ValueError: a damaged file.
    """
    try:
        state: Json = json.loads((checkpoint / "state.json").read_text())
    except (OSError, ValueError) as error:
        raise _damaged(checkpoint, error) from error
    return state


def load_checkpoint(checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint into a model and optimizer of the same recipe.

    Raises:
        ValueError: a damaged file, or tensors that do not fit.
    """
    try:
        weights = load_file(checkpoint / "model.safetensors")
        moments = load_file(checkpoint / "optimizer.safetensors")
    except (SafetensorError, OSError) as error:
        raise _damaged(checkpoint, error) from error
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"checkpoint {checkpoint} is of another model: {error}") from error
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        prefix = name + "|"
        saved = {k.removeprefix(prefix): v for k, v in moments.items() if k.startswith(prefix)}
        if saved:
            optimizer.state[parameter] = {k: _like(parameter, v) for k, v in saved.items()}


def _like(parameter: Tensor, saved: Tensor) -> Tensor:
    """On the parameter's device, and a moment in its memory layout: fused kernels walk both side by side."""
    if saved.shape != parameter.shape:
        return saved.to(parameter.device)
    return torch.empty_like(parameter, dtype=saved.dtype).copy_(saved)


def _damaged(checkpoint: Path, error: Exception) -> ValueError:
    return ValueError(f"checkpoint {checkpoint} is damaged ({error}): delete it to resume from the one before")


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}|{key}": value.contiguous()
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
