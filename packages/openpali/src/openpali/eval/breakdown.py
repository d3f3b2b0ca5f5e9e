"""Scores in detail: confidence intervals, slices, and the worst samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openpali.eval.scales import PERFECT_CIDER, is_cider, is_error
from openpali.metrics.bootstrap import mean_interval
from openpali.metrics.scores import Scores, macro_values, mean
from openpali.tasks.base import Task
from openpali.tasks.scoring import Answered

WORST = 50  # samples that a card lists


def intervals_of(rows: Sequence[Answered], scores: Scores) -> dict[str, tuple[float, float]]:
    """Confidence intervals of the scores that are means over samples, or over kinds of sample of the mean in each.

    Corpus-level scores (rates, oIoU, F1) have none: they are not means of per-sample values.
    """
    found = {}
    kinds = [row.kind for row in rows]
    for name, values in scores.per_sample.items():
        if name not in scores.summary or len(values) < 2:
            continue
        value = scores.summary[name]
        if _close(mean(values), value):
            found[name] = mean_interval(values)
        elif len(values) == len(kinds):
            places = [[i for i, own in enumerate(kinds) if own == kind] for kind in sorted(set(kinds))]
            weighted = macro_values(len(kinds), [(own, [values[i] for i in own]) for own in places])
            if _close(mean(weighted), value):
                found[name] = mean_interval(weighted)
    return found


def slices_of(
    rows: Sequence[Answered], scores: Scores, metric: str, languages: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Slice -> ``n``, ``value`` of the metric and its ``interval``, if it is a mean over samples.

    A slice is a kind of sample, or a language if there are several.

    Args:
        languages: language of each row's answer; empty if unknown.
    """
    values = scores.per_sample.get(metric, [])
    found: dict[str, dict[str, Any]] = {}
    if len(values) != len(rows) or not _close(mean(values), scores.summary[metric]):
        return found
    kinds = [row.kind for row in rows]
    for names in (kinds, languages if len(set(languages)) > 1 else ()):
        for name in sorted(set(names) - {"", *found}):
            own = [value for value, its in zip(values, names, strict=True) if its == name]
            if _close(mean(own), scores.summary.get(f"{metric}/{name}", mean(own))):
                found[name] = {"n": len(own), "value": mean(own), "interval": mean_interval(own)}
    return found


def languages_of(rows: Sequence[Answered], task: Task) -> list[str]:
    """The answer's language in each row's prompt; empty if the prompt names none."""
    template = task.template_in(task.dialect)
    return [((template and template.read(row.prompt)) or {}).get("lang", "") for row in rows]


def worst_of(rows: Sequence[Answered], scores: Scores, metric: str, count: int = WORST) -> list[int]:
    """Indices of the worst samples by a metric, the worst first, without perfect ones.

    For error rates (:func:`is_error`) the highest value is the worst.
    """
    values = scores.per_sample.get(metric, [])
    if len(values) != len(rows):
        return []
    sign, perfect = (-1, 0.0) if is_error(metric) else (1, PERFECT_CIDER if is_cider(metric) else 1.0)
    order = sorted(range(len(rows)), key=lambda i: sign * values[i])
    return [i for i in order if not _close(values[i], perfect)][:count]


def _close(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-9 * max(1.0, abs(a), abs(b))
