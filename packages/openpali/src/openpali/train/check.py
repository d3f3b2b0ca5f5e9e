"""What is wrong with a recipe beyond the values of single keys: one sentence for each mistake.

Sizes, options and files are checked where the model and the data are opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from openpali.tasks.example import Size
from openpali.train.recipe import EvalSpec, LoraSpec, PhaseSpec, Recipe, Schedule
from openpali.train.recipe_file import quote

START = 'as in model.init = { "" = "nano/pali" }'


def problems(recipe: Recipe) -> Iterator[str]:
    """Sentences about combinations of keys that cannot be."""
    sizes = [problem for number, phase in enumerate(recipe.phases) for problem in _resolution(number, phase)]
    yield from sizes
    if not sizes:  # otherwise there are no pixels to compare
        yield from _proportions(recipe)
        yield from _model(recipe)
        yield from recipe.problems()
    for schedule in recipe.schedules:
        yield from _schedule(schedule, recipe)
    yield from _run(recipe)
    yield from _mixtures(recipe)
    yield from _evals(recipe.evals, recipe.keep_best)


def _run(recipe: Recipe) -> Iterator[str]:
    if "\\" in recipe.name or not all(part.strip(" .") for part in recipe.name.split("/")):
        yield f'name = {quote(recipe.name)} is no folder in runs/: take a name such as "mine", or "mine/first"'
    if isinstance(recipe.max_bad, float) and not 0 < recipe.max_bad < 1:
        yield f"max_bad = {recipe.max_bad}: give a number of samples, or a share of them between 0 and 1"
    if recipe.batch % recipe.micro:
        yield f"batch = {recipe.batch} cannot be split into micro = {recipe.micro} equal parts"
    for number, phase in enumerate(recipe.phases):
        if excess := phase.samples % recipe.batch:
            less, more = phase.samples - excess, phase.samples - excess + recipe.batch
            yield (
                f"phases.{number}.samples = {phase.samples} is not a multiple of batch = {recipe.batch}: "
                f"take {more}" + (f" (or {less})" if less else "")
            )
    if recipe.optimizer.qk_clip and recipe.parallel.shard != "none":
        yield (
            f'optimizer.qk_clip needs whole weight matrices, and parallel.shard = "{recipe.parallel.shard}" cuts '
            'them: remove optimizer.qk_clip, or set parallel.shard = "none"'
        )


def _resolution(number: int, phase: PhaseSpec) -> Iterator[str]:
    if bool(phase.size) == bool(phase.tokens):
        yield f"phases.{number} needs either a size, such as 224, or tokens, such as 256 in own proportions"
    elif phase.size:
        try:
            Size.parse(str(phase.size))
        except ValueError as error:
            yield f"phases.{number}.size = {phase.size}: {error}"


def _proportions(recipe: Recipe) -> Iterator[str]:
    resize, tokens = recipe.model.resize, [bool(phase.tokens) for phase in recipe.phases]
    if resize != "native" and not any(tokens):
        return
    instead = 'set model.resize = "squash", and size instead of tokens in each phase'
    if not recipe.native:
        yield f'objective = "{recipe.objective}" takes images of one size: {instead}'
    elif resize not in ("", "native") or not all(tokens):
        yield (
            'tokens keep the proportions of images: set model.resize = "native", and tokens in each phase, or '
            f"{instead}"
        )


def _model(recipe: Recipe) -> Iterator[str]:
    model = recipe.model
    for key in ("preset", "tokenizer"):
        if not getattr(model, key) and not model.start:
            yield f"model.{key} is missing: name it, or a model that the whole run starts from, {START}"
    if not model.lora.rank:
        if model.lora != LoraSpec():
            yield "model.lora needs a rank, such as 16"
        return
    if not model.start or len(model.init) > 1:
        yield f"model.lora changes one model: name it, and nothing else, in model.init, {START}"
    if len({phase.tokens or phase.pixels for phase in recipe.phases}) > 1:
        yield "phases have several sizes, and model.lora holds no position embeddings: give all phases one size"
    if recipe.optimizer.qk_clip:
        yield "optimizer.qk_clip changes weights that model.lora freezes: remove one of the two"


def _schedule(schedule: Schedule, recipe: Recipe) -> Iterator[str]:
    where, spec = schedule.where, schedule.spec
    if spec.schedule == "rsqrt" and not spec.warmup:
        yield f'optimizer.schedule = "rsqrt" takes its time scale from the warmup: set {where}.warmup'
    if spec.cooldown and spec.schedule in ("cosine", "linear"):
        yield (
            f'optimizer.schedule = "{spec.schedule}" already ends at 0: remove {where}.cooldown, or choose "rsqrt" '
            'or "constant"'
        )
    if (needed := spec.warmup + spec.cooldown) > schedule.samples:
        until = "the run" if schedule.samples == recipe.samples else "the phases that have this learning rate"
        yield f"{where}.warmup + {where}.cooldown = {needed} is more than {until}, {schedule.samples} samples"


def _mixtures(recipe: Recipe) -> Iterator[str]:
    for number, phase in enumerate(recipe.phases):
        if not phase.lr and (phase.warmup or phase.cooldown):
            yield f"phases.{number}: warmup and cooldown are those of a learning rate of its own: set its lr, too"
        for place, entry in enumerate(phase.mixture):
            where = f"phases.{number}.mixture.{place}"
            if recipe.writes and not entry.task:
                yield f"{where}.task is missing: name the task that writes prompt and target"
            if not recipe.writes and (entry.task or entry.task_options):
                yield f'{where}: objective = "{recipe.objective}" asks nothing: remove task and task_options'


def _evals(evals: Sequence[EvalSpec], keep_best: str) -> Iterator[str]:
    for number, spec in enumerate(evals):
        if bool(spec.benchmark) == bool(spec.source):
            yield f"evals.{number} needs either a benchmark, or a source"
        elif spec.benchmark and (spec.task or spec.options or spec.task_options):
            yield (
                f"evals.{number}: benchmark {spec.benchmark} has its own task and options: remove task, options "
                "and task_options"
            )
    names = [spec.label for spec in evals]
    if twice := [name for name in names if names.count(name) > 1]:
        yield f"two evaluations are called {twice[0]!r}: give each in [[evals]] a name"
    if keep_best and not any(keep_best == name or keep_best.startswith(f"{name}/") for name in names):
        yield (
            f"keep_best = {keep_best!r}: no evaluation in [[evals]] has that name"
            + (f"; it is one of {', '.join(names)}, with or without a score" if names else "")
        )
