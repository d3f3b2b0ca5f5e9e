"""What a finished run has come to: still improving, overfitting, or settled."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from openpali.train.evals import LOSS, evaluation_of, lower_is_better, score_of
from openpali.train.recipe import EvaluatedRecipe, Recipe

TAIL = 0.25  # share of the run, at its end, in which a run that still improves does so
GAIN = 0.03  # least relative change of a held-out loss that counts


class Point(NamedTuple):
    """A value after so many samples of a run."""

    samples: int
    value: float


def describe_outcome(recipe: Recipe, metrics: Path) -> str:
    """One sentence about a finished run, by the held-out loss and the score that counts in its ``metrics.jsonl``.

    Without evaluations it goes by the training loss, which does not show overfitting. Empty if there are too few
    values.
    """
    rows = [json.loads(line) for line in metrics.read_text("utf-8").splitlines()] if metrics.is_file() else []
    evaluations = [row for row in rows if "eval" in row]
    names = [*dict.fromkeys(row["eval"] for row in evaluations)]
    keep_best = recipe.keep_best if isinstance(recipe, EvaluatedRecipe) else ""
    name = evaluation_of(keep_best, names) or next(iter(names), None)
    if name is None:
        losses = [Point(row["samples"], row["loss"]) for row in rows]
        return _sentence(recipe, "the loss", losses, overfits=False)
    own = [row for row in evaluations if row["eval"] == name]
    score = score_of(keep_best, name) or own[-1]["metric"]
    if LOSS in own[-1]["scores"]:
        since = _overfits_since(_points(own, LOSS), _points(own, score), falls=lower_is_better(score))
        if since:
            return (
                f"overfitting since sample {since:,}: the held-out loss has risen since, and {score} is no better"
            )
        return _sentence(recipe, "the held-out loss", _points(own, LOSS))
    falls = lower_is_better(score)
    return _sentence(recipe, score, [Point(at, value if falls else -value) for at, value in _points(own, score)])


def _sentence(recipe: Recipe, what: str, falling: Sequence[Point], *, overfits: bool = True) -> str:
    """By values that are better when they are lower."""
    if len(falling) < 3:
        return ""
    last = falling[-1]
    before = [point for point in falling if point.samples <= (1 - TAIL) * last.samples] or falling[:1]
    if before[-1].value - last.value > GAIN * abs(before[-1].value):
        half = max(1, round(recipe.samples / 2 / recipe.batch)) * recipe.batch
        key = f"phases.{len(recipe.phases) - 1}.samples={recipe.phases[-1].samples + half}"
        return f"still improving: {what} improves to the end; {key} lets the run go on"
    told = "" if overfits else "; without [[evals]], nothing shows whether it overfits"
    return f"settled: {what} no longer improves{told}"


def _overfits_since(losses: Sequence[Point], scores: Sequence[Point], *, falls: bool) -> int:
    """The samples after which the loss rose to the end while no later score was better; 0: it did not overfit."""
    if not losses or not scores:
        return 0
    least = min(losses, key=lambda point: point.value)
    if losses[-1].value <= (1 + GAIN) * least.value:
        return 0
    better = min if falls else max
    best = better(scores, key=lambda point: point.value)
    return least.samples if best.samples < scores[-1].samples else 0


def _points(rows: Sequence[Mapping[str, Any]], score: str) -> list[Point]:
    """Those that are numbers."""
    found = [Point(row["samples"], row["scores"][score]) for row in rows if score in row["scores"]]
    return [point for point in found if math.isfinite(point.value)]
