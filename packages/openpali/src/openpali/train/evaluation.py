"""One evaluation of a run, with its data open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from openpali.data.sources.base import Source
from openpali.data.sources.registry import open_source
from openpali.eval.benchmark import Benchmark
from openpali.eval.evaluators import Evaluator
from openpali.eval.pages import PageEvaluator
from openpali.eval.registry import find_benchmark
from openpali.train.recipe import EvalSpec, Recipe

B = TypeVar("B", bound=Benchmark)


@dataclass(frozen=True)
class Evaluation:
    """One of a recipe's ``[[evals]]``, with its data open."""

    name: str  # of the evaluation
    every: int  # samples from one run to the next
    n: int  # how many samples it asks; 0: all of a benchmark of embeddings
    metric: str  # the score that counts
    evaluators: Sequence[Evaluator[Any]]  # what it runs; the last one counts the samples


def of_pages(
    spec: EvalSpec,
    kind: Callable[[str, Source, int | None], PageEvaluator],
    metric: str,
) -> Evaluation:
    """An evaluation of pages, by an evaluator of this kind."""
    if spec.benchmark or spec.task:
        raise ValueError("pages are evaluated by a source of pages: name one, and neither benchmark nor task")
    evaluator = kind(spec.label, open_source(spec.source, spec.options), spec.limit or None)
    return Evaluation(spec.label, spec.every, evaluator.n, metric, [evaluator])


def find_for(recipe: Recipe, name: str, kind: type[B], what: str) -> B:
    """A benchmark of the kind that the recipe's model can be asked.

    Args:
        what: what other benchmarks do, for the message.
    """
    benchmark = find_benchmark(name)
    if not isinstance(benchmark, kind):
        raise ValueError(
            f"benchmark {benchmark.name} {what}, which a model of objective = {recipe.objective!r} cannot: name "
            "another benchmark"
        )
    return benchmark
