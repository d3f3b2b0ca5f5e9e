"""What a run takes over from the model that it starts from.

A recipe that starts from a whole model inherits what it does not name itself: shapes, tokenizer, resizing of
images, normalisation and padding of texts, the softmax loss, dialect, mask VQ-VAE, and the options of each task.
:func:`inherit` writes all of it into the recipe, where training, evaluation, validation, plans and the exported
model find it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

from openpali.architectures.registry import find_dialect
from openpali.data.media.images import Preprocess
from openpali.data.media.native import AnyPreprocess
from openpali.data.pipeline.encode import PairEncoder
from openpali.data.sources.registry import holds_records, open_source
from openpali.tasks.registry import TASKS, default_options, needs_masks, open_task
from openpali.tasks.vqa import Classify
from openpali.train.checkpoint import checkpoints
from openpali.train.load import parse_recipe, read_record
from openpali.train.recipe import PromptedRecipe, Recipe, SourceSpec
from openpali.train.recipe_file import quote
from openpali.weights.bundle import main_part, mask_codec_of
from openpali.weights.find import find_model, name_of
from openpali.weights.format import open_model

# Of the recipe's model table, which a run can inherit.
KEYS = ("preset", "tokenizer", "resize", "filter", "text_normalisation", "padding", "masks", "dialect", "knows")

Known = Mapping[str, Any]  # what the start model has for these keys


class Complete(NamedTuple):
    """A recipe with all that it inherits, and sentences about that: what, and where the recipe differs."""

    recipe: Recipe
    notes: Sequence[str]


def inherit(recipe: Recipe, run: Path | None = None) -> Complete:
    """Complete a recipe with what its start model knows.

    A start model that is not here hands on nothing if the recipe names preset and tokenizer itself: so later stages
    can be explained and planned before earlier ones have run.

    Args:
        recipe: one without a start model, or a complete one, stays as it is.
        run: the folder of the run. If the run has begun, its record says what it inherited, whatever the start
            model says by now.
    """
    start = recipe.model.start
    known: Known | None = {}
    if start:
        known = _recorded(recipe, run) or _read(recipe)
    if known is None:
        return Complete(recipe, [f"the start model {start} is not here yet: what it hands on is left out"])
    raw = recipe.model_dump()
    model = raw["model"]
    model |= {key: known[key] for key in KEYS if key in model and key in known and not model[key]}
    if not model["tokenizer"]:
        raise ValueError(f"the start model {start} has no tokenizer: name one as model.tokenizer")
    named = recipe.model_fields_set
    if known.get("softmax") and "softmax" in raw and "softmax" not in named:  # a sigmoid's bias was never trained
        raw["softmax"] = True
    for phase in raw["phases"]:
        for entry in phase["mixture"]:
            entry["task_options"] = {**model.get("knows", {}).get(entry["task"], {}), **entry["task_options"]}
    complete = parse_recipe(raw)
    notes = [*_inherited(recipe, complete), *_differences(recipe, known)]
    if isinstance(complete, PromptedRecipe):
        _require_masks(complete)
        complete, limited = _with_labels(recipe, complete)
        notes += limited
    return Complete(complete, notes)


def _recorded(recipe: Recipe, run: Path | None) -> Known | None:
    """What a run that has begun has inherited; None if it has not begun from the same model."""
    if run is None or not checkpoints(run):
        return None
    try:
        before = read_record((run / "recipe.json").read_text("utf-8"))
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
    own = name if part == folder else name_of(part)
    return {
        "preset": own,
        "tokenizer": own if model.has_tokenizer else "",
        **_resizing(model.preprocess),
        "text_normalisation": _unless(PairEncoder.normalisation, model.facts.normalisation),
        "padding": _unless(PairEncoder.padding, model.facts.padding),
        "masks": mask_codec_of(folder),
        "dialect": model.facts.dialect,
        "softmax": model.facts.softmax,
        "knows": model.facts.tasks,
    }


def _unless(usual: str, value: str) -> str:
    return "" if value == usual else value


def _resizing(preprocess: AnyPreprocess | None) -> Known:
    """How the start model resizes images, where that is not the default."""
    if preprocess is None:  # it takes no images
        return {}
    found = {"resize": preprocess.policy, "filter": preprocess.filter}
    usual = {"resize": Preprocess.policy, "filter": Preprocess.filter}
    return {key: value for key, value in found.items() if value != usual[key]}


def _with_labels(recipe: Recipe, complete: PromptedRecipe) -> tuple[PromptedRecipe, list[str]]:
    """The recipe with the labels of each source of ``classify`` whose entry names none, and a sentence about each.

    Those of the start model are other classes. A source that is not here yet has none.
    """
    raw, notes = complete.model_dump(), []
    for number, phase in enumerate(recipe.phases):
        for place, own in enumerate(phase.mixture):
            if own.task != Classify.name or "labels" in own.task_options or not holds_records(own.source):
                continue
            with suppress(FileNotFoundError):
                task = open_task(own.task, own.task_options)
                assert isinstance(task, Classify)
                source = open_source(own.source, own.options)
                names = getattr(source, "labels", ()) if task.of == "image" and not task.label else ()
                labels = sorted({task.group_of(name) for name in names})
                raw["phases"][number]["mixture"][place]["task_options"]["labels"] = labels
                if labels:
                    notes.append(f"{own.name}: answers are limited to its {len(labels)} labels")
    return cast(PromptedRecipe, parse_recipe(raw)), notes


def _require_masks(recipe: PromptedRecipe) -> None:
    """Check that there is a mask VQ-VAE if a task writes or scores masks."""
    if recipe.model.masks:
        return
    asked = {f"evals.{number}": spec.task for number, spec in enumerate(recipe.evals)}
    for number, phase in enumerate(recipe.phases):
        asked |= {f"phases.{number}.mixture.{place}": entry.task for place, entry in enumerate(phase.mixture)}
    for where, task in asked.items():
        if task in TASKS and needs_masks(task, find_dialect(recipe.model.dialect)):
            raise ValueError(
                f'{where}: task {task} needs a mask VQ-VAE: set model.masks to one, such as "nano/mask_vqvae", or '
                "start from a model that has one"
            )


def _inherited(recipe: Recipe, complete: Recipe) -> Iterator[str]:
    """One sentence about what a complete recipe has that the original did not name."""
    before, after, start = recipe.model.model_dump(), complete.model.model_dump(), recipe.model.start
    taken = {key: after[key] for key in KEYS if key in after and after[key] != before[key]}
    parts = [key if value == start else f"{key} {value}" for key, value in taken.items() if key != "knows"]
    if getattr(complete, "softmax", False) != getattr(recipe, "softmax", False):
        parts.append("softmax = true")
    options = {}
    for own, entry in zip(_entries(recipe), _entries(complete), strict=True):
        options[entry.task] = {k: v for k, v in entry.task_options.items() if k not in own.task_options}
    parts += [f"{task} ({_written(own)})" for task, own in options.items() if own]
    if kept := [task for task in taken.get("knows", {}) if task not in options]:
        parts.append(f"the options of {', '.join(kept)}")
    if parts:
        yield f"inherited from {start}: {', '.join(parts)}"


def _differences(recipe: Recipe, known: Known) -> Iterator[str]:
    """A sentence about each value that the recipe names and that is another one in the start model."""
    yield from _unused(recipe)
    if not isinstance(recipe, PromptedRecipe):
        return
    for key in ("masks", "dialect"):
        own, theirs = getattr(recipe.model, key), known.get(key)
        if own and theirs and own != theirs:
            yield f"{key}: {theirs} of the start model -> {own} by the recipe"
    said: dict[str, None] = {}  # several entries may say the same
    for entry in _entries(recipe):
        options = known.get("knows", {}).get(entry.task)
        if options is None:
            continue
        options = {**default_options(entry.task, find_dialect(known["dialect"])), **options}
        for name, value in entry.task_options.items():
            theirs, own = quote(options.get(name)), quote(value)
            if name in options and theirs != own:
                said[f"{entry.task}: {name} {theirs} of the start model -> {own} by the recipe"] = None
    yield from said


def _unused(recipe: Recipe) -> Iterator[str]:
    """A sentence about each scalar that the recipe names and that the weights of the start model replace."""
    model = recipe.model
    for key in ("temperature", "bias"):
        field = type(model).model_fields.get(key)
        if model.start and field and (value := getattr(model, key)) != field.default:
            yield f"model.{key} = {quote(value)} is not used: {model.start} has learned its own"


def _entries(recipe: Recipe) -> list[SourceSpec]:
    return [entry for phase in recipe.phases for entry in phase.mixture]


def _written(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {quote(value)}" for name, value in options.items())
