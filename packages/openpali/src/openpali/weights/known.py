"""How a model writes the samples of its tasks, to check data before it is trained on them."""

from __future__ import annotations

from functools import cache

from openpali.data.validate import Terms
from openpali.tasks.registry import TASKS, Tools, open_task, openable
from openpali.weights.bundle import mask_codec_of, open_bundle
from openpali.weights.files import MAIN
from openpali.weights.find import find_model
from openpali.weights.format import open_model
from openpali.weights.mask_codec import open_mask_codec


def known_terms(name: str, task: str = "") -> Terms:
    """The tasks of a model or bundle with the options that it was trained with, its tokenizer and its prompt limit.

    Args:
        name: as :func:`find_model` takes it.
        task: this task alone; by default all that its tokenizer and mask codec suffice for.
    """
    folder = find_model(name)
    parts = open_bundle(folder).parts
    if MAIN not in parts:
        raise ValueError(f"the model {folder} has no part that is asked in text, only {', '.join(parts)}")
    model = open_model(parts[MAIN])
    tokenizer, known = model.tokenizer, model.facts.tasks
    tools: Tools = {"tokenizer": lambda: tokenizer}
    if masks := mask_codec_of(folder):
        tools = {**tools, "masks": cache(lambda: open_mask_codec(find_model(masks)))}
    lacking = set() if "masks" in tools else {name for name, family in TASKS.items() if "masks" in family.needs}
    if task in lacking:
        raise ValueError(
            f"the model {folder} has no mask VQ-VAE, which task {task} needs: take a bundle that has "
            "one, such as nano, or a recipe with model.masks"
        )
    names = [task] if task else [each for each in openable(tools) if each not in lacking]
    tasks = [open_task(each, known.get(each), tools, dialect=model.dialect) for each in names]
    return Terms(tasks, bool(task), tokenizer, max_prompt=model.facts.max_prompt)
