"""What tests of several architectures do: run a command, ask one by one, together and served, and train."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openpali.distributed import ALONE
from openpali.infer.generate import Decoding
from openpali.infer.pali import Pali
from openpali.serve.scheduler import Scheduler
from openpali.train.recipe import Recipe
from openpali.train.trainer import Trainer
from openpali.weights.bundle import open_tokenizer

MINE = {"source": "mine.jsonl", "task": "vqa"}


def answer_in_every_way(
    pali: Pali, rows: Sequence[Sequence[np.ndarray]], prompts: Sequence[str]
) -> list[list[int]]:
    """The ids of each answer, which are the same for a row alone, in a batch, and served."""
    decoding = Decoding(10)
    alone = [pali.predict([row], [p], decoding=decoding)[0] for row, p in zip(rows, prompts, strict=True)]
    together = pali.predict(rows, prompts, decoding=decoding)
    scheduler = Scheduler(pali, slots=3)
    tickets = [scheduler.submit(row, p, decoding=decoding) for row, p in zip(rows, prompts, strict=True)]
    while scheduler.turn():
        pass
    served = [ticket.predictions()[0] for ticket in tickets]
    ids = [found.generation.ids for found in alone]
    assert ids == [found.generation.ids for found in together] == [found.generation.ids for found in served]
    assert [found.prompt for found in together] == [found.prompt for found in served]
    return ids


def raw_recipe(base: Path, size: int, **model: Any) -> dict[str, Any]:
    """Two steps from a model, on two samples of ``mine.jsonl``."""
    return {
        "name": "mine",
        "objective": "sequence",
        "batch": 2,
        "workers": 0,
        "precision": "fp32",
        "model": {"init": {"": str(base)}, **model},
        "optimizer": {"lr": 1e-2, "schedule": "constant"},
        "phases": [{"samples": 4, "size": size, "mixture": [MINE]}],
        "evals": [{"name": "held", **MINE, "every": 2}],
    }


def trainer(recipe: Recipe, run: Path) -> Trainer:
    return Trainer(recipe, run, ALONE, open_tokenizer(recipe.model.tokenizer))
