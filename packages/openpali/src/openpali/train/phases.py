"""A recipe's phases with their sources and tasks opened, and what each phase draws."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from openpali.architectures.base import vision_of
from openpali.architectures.registry import find_dialect
from openpali.data.media.native import AnyPreprocess
from openpali.data.pipeline.mixture import BLOCK, ENDLESS
from openpali.data.pipeline.stream import Entry, Phase
from openpali.data.sources.registry import open_source
from openpali.data.validate import Terms
from openpali.messages import hint
from openpali.tasks.base import Need, Task
from openpali.tasks.dialects import Dialect
from openpali.tasks.registry import Tools, open_task
from openpali.tasks.vqa import Classify
from openpali.text.tokenizer import Tokenizer
from openpali.train.recipe import PhaseSpec, PromptedRecipe, Recipe
from openpali.train.recipe_file import quote
from openpali.train.shapes import shape_of
from openpali.weights.find import find_model
from openpali.weights.mask_codec import open_mask_codec

MANY_EPOCHS = 25


def open_phases(recipe: Recipe, tokenizer: Tokenizer) -> list[Phase]:
    """Open every source and task of a recipe."""
    tools = open_tools(recipe, tokenizer)
    return [_open(spec, recipe, tools) for spec in recipe.phases]


def open_run_task(recipe: Recipe, name: str, options: Mapping[str, Any], tools: Tools) -> Task:
    """A task in the dialect of a run's model."""
    return open_task(name, options, tools, dialect=dialect_of(recipe))


def class_names(phases: Sequence[Phase]) -> list[str]:
    """The classes of a classifier: all that its entries can have, sorted."""
    return sorted({name for phase in phases for entry in phase.entries for name in _classes(entry)})


def dialect_of(recipe: Recipe) -> Dialect:
    """The dialect of a run's model."""
    return find_dialect(recipe.model.dialect if isinstance(recipe, PromptedRecipe) else "")


def task_options(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """The options of each task that the run's model knows.

    A task that is trained has those of its last phase, and of several entries there the options they agree on. Any
    other task has those of the start model.
    """
    last = {entry.task: phase for phase in recipe.phases for entry in phase.mixture if entry.task}
    found = dict(recipe.model.knows) if isinstance(recipe, PromptedRecipe) else {}
    for task, phase in last.items():
        first, *others = [entry.task_options for entry in phase.mixture if entry.task == task]
        found[task] = {k: v for k, v in first.items() if all(k in other and other[k] == v for other in others)}
    return found


def training_terms(recipe: Recipe, tokenizer: Tokenizer, source: str, task: str = "") -> Terms:
    """How a recipe writes the samples of a source, to check them before training.

    Args:
        source: as the recipe names it, or another path of the same file.
        task: of several tasks that the recipe trains on the source, this one.
    """
    entries = [entry for phase in recipe.phases for entry in phase.mixture]
    used = [entry for entry in entries if _same(entry.source, source)]
    if not used:
        names = ", ".join(dict.fromkeys(entry.source for entry in entries))
        raise ValueError(f"recipe {recipe.name} does not train on {source}: its sources are {names}")
    chosen = [entry for entry in used if not task or entry.task == task]
    if not chosen:
        known = (
            hint(task, dict.fromkeys(entry.task for entry in used)) if recipe.writes else "its entries have no task"
        )
        raise ValueError(f"recipe {recipe.name} does not train {task} on {source}: {known}")
    tools = open_tools(recipe, tokenizer)
    written = (open_run_task(recipe, entry.task, entry.task_options, tools) for entry in chosen if entry.task)
    tasks = dict.fromkeys(written)
    limits = (recipe.max_prompt, recipe.max_target) if isinstance(recipe, PromptedRecipe) else (None, None)
    return Terms([*tasks], True, tokenizer if recipe.writes else None, chosen[0].options, *limits)


def describe_phases(recipe: Recipe, phases: Sequence[Phase]) -> Iterator[str]:
    """Lines of text about each phase: the exact share of every source, its number of draws, and its epochs; then
    about each source that the run draws too often.
    """
    seen: defaultdict[str, float] = defaultdict(float)
    for spec, phase in zip(recipe.phases, phases, strict=True):
        shown = spec.resolution if spec.tokens else " x ".join(map(str, spec.pixels)) + " pixels"
        rate = f", at a learning rate of {spec.lr:g}" if spec.lr else ""
        yield f"{phase.samples:,} samples at {shown}{rate}:"
        for entry, count in zip(phase.entries, phase.mixture(recipe.seed).counts, strict=True):
            draws, size = round(phase.samples * count / BLOCK), len(entry.source)
            epochs = "endless" if size >= ENDLESS else f"{size:,} examples, {draws / size:.1f} epochs"
            yield f"  {entry.name:32} {count / BLOCK:6.1%} {draws:>10,} draws  ({epochs})"
            seen[entry.name] += draws / size
    for name, times in seen.items():
        if times > MANY_EPOCHS:
            yield (
                f"{name} is drawn {times:.0f} times over, and more than {MANY_EPOCHS} epochs mostly overfit: lower "
                "phases.N.samples, or add samples"
            )


def _open(spec: PhaseSpec, recipe: Recipe, tools: Tools) -> Phase:
    entries: list[Entry] = []
    preprocess = _preprocess(spec, recipe)
    for line in spec.mixture:
        min_size = None if recipe.parts else preprocess.min_size
        source = open_source(line.source, line.options, min_size=min_size)
        task = open_run_task(recipe, line.task, line.task_options, tools) if line.task else None
        if task and task.coordinates and preprocess.policy == "pad":
            raise ValueError(
                f"task {task.name} writes coordinates, which model.resize = {quote(preprocess.policy)} would "
                'shift: set it to "squash"'
            )
        entries.append(Entry(line.name, source, task, line.weight))
    return Phase(spec.samples, preprocess, entries)


def _preprocess(spec: PhaseSpec, recipe: Recipe) -> AnyPreprocess:
    if not spec.tokens:
        return recipe.model.preprocess(spec.pixels)
    return recipe.model.preprocess_for(spec.at_resolution(vision_of(shape_of(recipe, *recipe.kinds))))


def _classes(entry: Entry) -> Sequence[str]:
    task, labels = entry.task, getattr(entry.source, "labels", ())
    if not isinstance(task, Classify):
        return labels
    if task.label:
        return [task.label]
    names = entry.source[0].vocabulary if task.of == "object" else labels
    for name in (name for group in task.groups.values() for name in group):
        if name not in names:
            raise ValueError(f"{entry.name}: groups have {name!r}, which is no class of it; {hint(name, names)}")
    return [task.group_of(name) for name in names]


def _same(one: str, other: str) -> bool:
    return one == other or Path(one).expanduser().resolve() == Path(other).expanduser().resolve()


def open_tools(recipe: Recipe, tokenizer: Tokenizer) -> Tools:
    """What the recipe's tasks may need besides their options."""
    tools: dict[Need, Callable[[], Any]] = {"tokenizer": lambda: tokenizer}
    if isinstance(recipe, PromptedRecipe):
        tools["max_inputs"] = lambda: recipe.max_prompt
        tools["max_targets"] = lambda: recipe.max_target - 1  # EOS is the last
        if recipe.model.masks:
            tools["masks"] = cache(lambda: open_mask_codec(find_model(recipe.model.masks)))
    return tools
