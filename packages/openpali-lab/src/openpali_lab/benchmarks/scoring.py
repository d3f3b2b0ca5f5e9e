"""Scorers that data set owners prescribe and that differ from the tasks' own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, wraps

from openpali.home import data_folder
from openpali.metrics.exact import exact_match
from openpali.metrics.scores import Scores, mean
from openpali.metrics.words import pointing
from openpali.tasks.example import Example
from openpali.tasks.scoring import (
    Answered,
    Score,
    boxes,
    by_kind,
    exact,
    first_references,
    references,
    slices,
    texts,
)
from openpali_lab.benchmarks.metrics import vqa
from openpali_lab.benchmarks.metrics.nextqa import nextqa
from openpali_lab.benchmarks.metrics.wordnet import WordNet


def vqa_accuracy(rows: Sequence[Answered]) -> Scores:
    """VQAv2's and TextVQA's accuracy over ten annotators."""
    return vqa.vqa_accuracy(texts(rows), references(rows))


def okvqa_accuracy(rows: Sequence[Answered]) -> Scores:
    """``accuracy`` without clean-up, as big_vision; and ``vqa_accuracy``, which the OKVQA paper prescribes."""
    plain, official = vqa.soft_accuracy(texts(rows), references(rows)), vqa_accuracy(rows)
    return Scores(plain.summary | official.summary, plain.per_sample | official.per_sample)


def anls(rows: Sequence[Answered]) -> Scores:
    """ANLS, and exact match without regard to case."""
    similar, same = vqa.anls(texts(rows), references(rows)), exact_lower(rows)
    return Scores(similar.summary | same.summary, similar.per_sample | same.per_sample)


def exact_lower(rows: Sequence[Answered]) -> Scores:
    """Exact match without regard to case."""
    return exact_match(texts(rows), references(rows), lower=True)


def counts(rows: Sequence[Answered]) -> Scores:
    """TallyQA's accuracy."""
    return vqa.count_accuracy(texts(rows), first_references(rows))


def relaxed(rows: Sequence[Answered]) -> Scores:
    """ChartQA's relaxed accuracy."""
    return vqa.relaxed_accuracy(texts(rows), first_references(rows))


def clicks(rows: Sequence[Answered]) -> Scores:
    """Whether the centre of the first box of an answer lies in the true box, edges included (ScreenSpot)."""
    found, true = ([some[:1] for some in side] for side in boxes(rows))
    return pointing(found, true)


@cache
def wordnet() -> WordNet:
    """WordNet as `openpali data build wordnet` fetches it."""
    return WordNet(data_folder("wordnet"))


def wups(rows: Sequence[Answered]) -> Scores:
    """NExT-QA's WUPS, by the kind of question too, and exact match."""
    similar = nextqa(texts(rows), references(rows), [row.kind for row in rows], wordnet())
    same = exact(rows)
    return Scores(similar.summary | same.summary, similar.per_sample | same.per_sample)


def measure_choices(example: Example) -> dict[str, list[str]]:
    """The choices of a question (``vocabulary``), for :func:`choices`: without outer white space, as references."""
    return {"choices": [choice.strip() for choice in example.vocabulary]}


def choices(rows: Sequence[Answered]) -> Scores:
    """Exact match; beside it multiple-choice accuracy, which takes the letter of a choice too, and ``unparsed``."""
    options = [row.values["choices"] for row in rows]
    right = [own.index(reference) for own, reference in zip(options, first_references(rows), strict=True)]
    same, chosen = exact(rows), vqa.multiple_choice(texts(rows), options, right)
    named = {"accuracy": "multiple_choice", "unparsed": "unparsed"}
    return Scores(
        same.summary | {named[name]: value for name, value in chosen.summary.items()},
        same.per_sample | {named[name]: values for name, values in chosen.per_sample.items()},
    )


def mean_of_slices(score: Score) -> Score:
    """Over each kind alone as ``NAME/KIND``, and as ``NAME`` the mean over kinds, however many samples each has."""

    @wraps(score)
    def sliced(rows: Sequence[Answered]) -> Scores:
        scores = by_kind(score, rows)
        shared = [n for n in next(iter(scores.values())).summary if all(n in s.summary for s in scores.values())]
        whole = {name: mean([s.summary[name] for s in scores.values()]) for name in shared}
        per_sample: dict[str, list[float]] = {}
        for kind, own in scores.items():
            places = [i for i, row in enumerate(rows) if row.kind == kind]
            for name, values in own.per_sample.items():
                column = per_sample.setdefault(name, [0.0] * len(rows))
                for place, value in zip(places, values, strict=True):
                    column[place] = value
        return Scores(whole | slices(scores), per_sample)

    sliced.__doc__ = f"{(score.__doc__ or '').rstrip('.')}: the mean over kinds of sample."
    return sliced
