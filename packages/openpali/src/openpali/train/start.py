"""What a run takes over from the model that it starts from.

A recipe that starts from a whole model inherits what it does not name itself: shapes, tokenizer, resizing of
images, normalisation and padding of texts, the softmax loss, dialect, mask VQ-VAE, and the options of each task.
:func:`inherit` writes all of it into the recipe, where training, evaluation, validation, plans and the exported
model find it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from openpali.data.media.images import Preprocess
from openpali.data.pipeline.encode import PairEncoder
from openpali.data.sources.registry import holds_records, open_source
from openpali.tasks.registry import TASKS, open_task
from openpali.tasks.vqa import Classify
from openpali.train.checkpoint import checkpoints
from openpali.train.load import parse_recipe, read_record
from openpali.train.recipe import PromptedRecipe, Recipe, SourceSpec
from openpali.weights.bundle import main_part, mask_codec_of
from openpali.weights.files import RECORD
from openpali.weights.find import find_model, name_of
from openpali.weights.format import open_model

# Of the recipe's model table, which a run can inherit.
KEYS = ("preset", "tokenizer", "resize", "filter", "text_normalisation", "padding", "masks", "dialect", "knows")

Known = Mapping[str, Any]  # what the start model has for these keys


def inherit(recipe: Recipe, run: Path | None = None) -> Recipe:
    """Complete a recipe with what its start model knows.

    A source of ``classify`` whose entry names no labels gets its own ones: those of the start model are other
    classes. A start model that is not here hands on nothing if the recipe names preset and tokenizer itself: so
    later stages can be explained and planned before earlier ones have run.

    Args:
        recipe: one without a start model, or a complete one, stays as it is.
        run: the folder of the run. If the run has begun, its record says what it inherited, whatever the start
            model says by now.
    """
    start = recipe.model.start
    known = (_recorded(recipe, run) or _read(recipe)) if start else {}
    if known is None:
        return recipe
    raw = recipe.model_dump()
    model = raw["model"]
    model |= {key: known[key] for key in KEYS if key in model and key in known and not model[key]}
    if not model["tokenizer"]:
        raise ValueError(f"the start model {start} has no tokenizer: name one as model.tokenizer")
    if known.get("softmax") and "softmax" in raw and "softmax" not in recipe.model_fields_set:
        raw["softmax"] = True  # a sigmoid's bias was never trained
    prompted = isinstance(recipe, PromptedRecipe)
    for phase, given in zip(raw["phases"], recipe.phases, strict=True):
        for entry, own in zip(phase["mixture"], given.mixture, strict=True):
            labels = _labels(own) if prompted else {}
            entry["task_options"] = {**model.get("knows", {}).get(own.task, {}), **labels, **own.task_options}
    complete = parse_recipe(raw)
    if isinstance(complete, PromptedRecipe):
        _require_masks(complete)
    return complete


def _recorded(recipe: Recipe, run: Path | None) -> Known | None:
    """What a run that has begun has inherited; None if it has not begun from the same model."""
    if run is None or not checkpoints(run):
        return None
    try:
        before = read_record((run / RECORD).read_text("utf-8"))
    except (OSError, ValueError):  # claiming the folder will say what is wrong
        return None
    if before.model.init != recipe.model.init:
        return None
    return {**before.model.model_dump(), "softmax": getattr(before, "softmax", False)}


def _read(recipe: Recipe) -> Known | None:
    """What the start model, or the main part of a bundle, says of itself; None if it is not here."""
    name = recipe.model.start
    try:
        folder = find_model(name)
    except FileNotFoundError as error:
        if recipe.model.preset and recipe.model.tokenizer:
            return None
        raise FileNotFoundError(f"model.init: {error}") from error
    try:
        part = main_part(folder)
        model = open_model(part)
    except ValueError as error:
        raise ValueError(f"model.init: {error}") from error
    own, images = name if part == folder else name_of(part), model.preprocess
    known = {
        "preset": own,
        "tokenizer": own if model.has_tokenizer else "",
        "resize": images.policy if images else "",
        "filter": images.filter if images else "",
        "text_normalisation": model.facts.normalisation,
        "padding": model.facts.padding,
        "masks": mask_codec_of(folder),
        "dialect": model.facts.dialect,
        "softmax": model.facts.softmax,
        "knows": model.facts.tasks,
    }
    usual = {
        "resize": Preprocess.policy,
        "filter": Preprocess.filter,
        "text_normalisation": PairEncoder.normalisation,
        "padding": PairEncoder.padding,
    }
    return {key: value for key, value in known.items() if value != usual.get(key)}


def _labels(entry: SourceSpec) -> dict[str, list[str]]:
    """The labels of a source of ``classify`` whose entry names none, as an option; {} if it is not here yet."""
    if entry.task == Classify.name and "labels" not in entry.task_options and holds_records(entry.source):
        with suppress(FileNotFoundError):
            task = open_task(entry.task, entry.task_options)
            assert isinstance(task, Classify)
            source = open_source(entry.source, entry.options)
            names = getattr(source, "labels", ()) if task.of == "image" and not task.label else ()
            return {"labels": sorted({task.group_of(name) for name in names})}
    return {}


def _require_masks(recipe: PromptedRecipe) -> None:
    """Check that there is a mask VQ-VAE if a task writes or scores masks."""
    if recipe.model.masks:
        return
    asked = {f"evals.{number}": spec.task for number, spec in enumerate(recipe.evals)}
    for number, phase in enumerate(recipe.phases):
        asked |= {f"phases.{number}.mixture.{place}": entry.task for place, entry in enumerate(phase.mixture)}
    for where, task in asked.items():
        if task in TASKS and "masks" in TASKS[task].needs:
            raise ValueError(
                f'{where}: task {task} needs a mask VQ-VAE: set model.masks to one, such as "nano/mask_vqvae", or '
                "start from a model that has one"
            )
