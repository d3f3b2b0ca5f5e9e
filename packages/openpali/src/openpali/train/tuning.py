"""The recipe that fine-tunes on one's own samples: which one of the package, from which start, and how long."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from openpali.data.media.native import NativePreprocess
from openpali.data.sources.base import Source, spread
from openpali.messages import hint
from openpali.train.recipe import Recipe
from openpali.train.recipe_file import Table, quote, read_overrides, read_table, shipped_recipes
from openpali.weights.bundle import main_part
from openpali.weights.find import find_model
from openpali.weights.format import open_model

RECIPES: Mapping[str, str] = {  # task -> recipe
    **{task: task for task in ("caption", "classify", "detect", "ocr", "refseg", "vqa")},
    **{task: "video" for task in ("video_caption", "video_qa")},
}
LINE = "line"  # the recipe for images of one line of text each
WIDE = 1.5  # times as wide as high, for half of the images of lines
LOOKED_AT = 100  # samples, evenly spaced, that tell lines from other images
EPOCHS, MOST_EPOCHS = 4, 20  # of usual samples; of few, which take as long as the recipe is
LONGEST = 12  # times the recipe's length, for many samples, unless one epoch is longer
EVALUATIONS = 5  # during a run, besides that of the start model


class Tuning(NamedTuple):
    """A recipe as a table, and a sentence that says how it was chosen."""

    recipe: Table
    why: str


def tuning(name: str, task: str, train: str, validation: str, samples: Source) -> Tuning:
    """The recipe that fine-tunes on samples, and is called ``name``.

    Args:
        train, validation: the sources to train on, and to choose the best checkpoint by.
        samples: ``train``, opened.
    """
    check_task(task)
    chosen = LINE if task == "ocr" and _are_lines(samples) else RECIPES[task]
    raw = read_table(shipped_recipes()[chosen])
    [phase], [held_out], batch = raw["phases"], raw["evals"], raw["batch"]
    length = math.ceil(length_for(len(samples), phase["samples"]) / batch) * batch
    raw["name"] = name
    raw["optimizer"]["warmup"] = min(raw["optimizer"]["warmup"], length // 10)
    phase["samples"] = length
    phase["mixture"][0] |= {"source": train, "task": task}
    held_out |= {"source": validation, "task": task, "every": math.ceil(length / EVALUATIONS / batch) * batch}
    start = raw["model"]["init"][""]
    lines = "; these images are lines of text" if chosen == LINE else ""
    why = f"recipe {chosen}, from {start}{lines}: {length:,} samples, {length / len(samples):.1f} epochs"
    return Tuning(raw, why)


def check_task(task: str) -> None:
    """Check that a recipe fine-tunes the task."""
    if task not in RECIPES:
        raise ValueError(f"no recipe fine-tunes task {task!r}; {hint(task, RECIPES)}")


def following(usual: Recipe, recipe: Recipe, overrides: Sequence[str]) -> list[str]:
    """Overrides that follow from the user's: the resolution of another start model, the frames of held-out videos.

    Args:
        usual, recipe: without and with the user's overrides.
    """
    named, found = {key for key, _ in read_overrides(overrides)}, []
    if recipe.model.start not in ("", usual.model.start) and not named & {"phases.0.size", "phases.0.tokens"}:
        preprocess = open_model(main_part(find_model(recipe.model.start))).preprocess
        if isinstance(preprocess, NativePreprocess):
            found += ['phases.0.size=""', f"phases.0.tokens={preprocess.tokens}"]
        elif preprocess is not None:
            found.append(f'phases.0.size="{preprocess.height}x{preprocess.width}"')
    if not any(key.startswith("evals.0.options") for key in named):
        options = recipe.phases[0].mixture[0].options
        found += [f"evals.0.options.{key}={quote(value)}" for key, value in options.items()]
    return found


def length_for(count: int, usual: int) -> int:
    """How many samples a run draws from ``count`` different ones, where the recipe has ``usual``."""
    return max(count, min(EPOCHS * count, LONGEST * usual), min(MOST_EPOCHS * count, usual))


def _are_lines(samples: Source) -> bool:
    """Whether each image is one line of text, cut out: of one line each, and wide."""
    some = []
    for index in spread(len(samples), LOOKED_AT):
        with suppress(ValueError, OSError):  # training replaces what it cannot read
            some.append(samples[index])
    some = [example for example in some if example.images]
    if not some:
        return False
    wide = statistics.median(example.size.width / example.size.height for example in some)
    return wide >= WIDE and not any("\n" in example.text.strip() for example in some)
