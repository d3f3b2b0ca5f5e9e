"""A checkpoint in the middle of a run as a model folder, to ask and to score."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import torch

from openpali.distributed import ALONE
from openpali.home import make_once
from openpali.model.init import materialise
from openpali.train.checkpoint import load_checkpoint, read_state, tensors_of
from openpali.train.export import export_model
from openpali.train.load import read_record
from openpali.train.objectives.registry import build_objective
from openpali.train.phases import class_names, open_phases
from openpali.train.step import TrainStep, set_resolution
from openpali.weights.bundle import open_tokenizer
from openpali.weights.files import RECORD


def export_checkpoint(checkpoint: Path) -> Path:
    """The model folder of a checkpoint, ``RUN/models/step-00001234``; written unless it is there and newer.

    It is what the run would have exported there: with averaged weights if the recipe has ``ema``.

    Args:
        checkpoint: ``RUN/checkpoints/step-00001234``; of a run on any number of ranks, which may go on meanwhile.
    """
    checkpoint = checkpoint.resolve()
    folder = checkpoint.parents[1] / "models" / checkpoint.name
    if folder.is_dir() and folder.stat().st_mtime < checkpoint.stat().st_mtime:
        shutil.rmtree(folder)  # of a checkpoint that was deleted, and of which the run has written another
    return make_once(folder, partial(_export, checkpoint))


def _export(checkpoint: Path, folder: Path) -> None:
    run = checkpoint.parents[1]
    state, recipe = read_state(checkpoint), read_record((run / RECORD).read_text("utf-8"))
    tokenizer = open_tokenizer(recipe.model.tokenizer)
    objective = build_objective(
        recipe, tokenizer, lambda: state.get("classes") or class_names(open_phases(recipe, tokenizer))
    )
    if recipe.model.lora.rank:  # the adapter's base is not written, and so not read
        objective.model.to_empty(device="cpu")
    else:
        materialise(objective.model)
    set_resolution(objective.model, recipe.phases[: state["phase"] + 1])
    step = TrainStep(recipe, objective, ALONE, torch.float32)
    load_checkpoint(checkpoint, tensors_of(step.model, step.optimizer, step.average), ALONE)
    export_model(folder, step, recipe, state["samples"], tokenizer, state.get("base", ""))
