"""Scores of answers in the synthetic worlds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import wraps
from itertools import combinations
from typing import TypeVar

from openpali.metrics.caption import cider
from openpali.metrics.scores import Scores, mean
from openpali.tasks.example import Example
from openpali.tasks.ocr import Ocr
from openpali.tasks.scoring import Answered, Score, exact, references, texts, with_slices
from openpali.tasks.vqa import Vqa
from openpali_lab.worlds.splits import is_heldout

V = TypeVar("V")

NOVEL = "novel"  # among the values of an answer: whether its sample shows what is held out


def captions(rows: Sequence[Answered]) -> Scores:
    """Exact match of captions per language, and the mean over languages; CIDEr in English."""
    found = with_slices(exact)(rows)
    hits, kinds = found.per_sample["exact_match"], sorted({row.kind for row in rows})
    scores = {f"exact/{lang}": found.summary[f"exact_match/{lang}"] for lang in kinds}
    if english := [row for row in rows if row.kind == "en"]:
        scores["cider/en"] = cider(texts(english), references(english)).summary["cider"]
    scores["exact/mean"] = mean([scores[f"exact/{lang}"] for lang in kinds])
    return Scores(scores, {"exact/mean": hits})


def reading(rows: Sequence[Answered]) -> Scores:
    """Exact match of words, and the character error rate."""
    return _renamed(Ocr.score(rows), {"cer": "cer", "exact_match": "exact"})


def answers(rows: Sequence[Answered]) -> Scores:
    """Exact match of answers, over all questions and per kind of question."""
    return _renamed(Vqa.score(rows), {"exact_match": "acc"})


def by_novelty(score: Score, novel: str, known: str) -> Score:
    """A scorer that also scores apart the samples that show what is held out, and the others.

    Args:
        novel, known: names of the two slices; :data:`NOVEL` among the values of an answer says which is whose.
    """

    @wraps(score)
    def sliced(rows: Sequence[Answered]) -> Scores:
        whole = score(rows)
        summary, per_sample = dict(whole.summary), dict(whole.per_sample)
        for name, side in ((novel, True), (known, False)):
            if own := [row for row in rows if row.values.get(NOVEL) is side]:
                found = score(own)
                summary |= {f"{each}/{name}": value for each, value in found.summary.items() if "/" not in each}
                per_sample |= {f"{each}/{name}": values for each, values in found.per_sample.items()}
        return Scores(summary, per_sample)

    return sliced


def shows_novel_pair(example: Example) -> dict[str, bool]:
    """Whether two of its names never share an image in training."""
    names = sorted({thing.name for thing in example.objects})
    return {NOVEL: any(is_heldout("pair", *pair) for pair in combinations(names, 2))}


def _renamed(scores: Scores, names: Mapping[str, str]) -> Scores:
    """A selection of the scores, with their slices, under the names in the cards of the worlds."""

    def renamed(values: Mapping[str, V]) -> dict[str, V]:
        parts = {name: name.partition("/") for name in values}
        return {names[m] + slash + kind: values[name] for name, (m, slash, kind) in parts.items() if m in names}

    return Scores(renamed(scores.summary), renamed(scores.per_sample))
