"""What a benchmark is, and how one is run into a score card."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from openpali.data.mixture import rng_of
from openpali.data.stream import Source
from openpali.eval.benchmarks.base import SEED, Advance
from openpali.infer.pali import Pali, Prediction
from openpali.tasks.base import Sample, Task
from openpali.tasks.example import Example


@dataclass(frozen=True)
class Card:
    """What a score was, and exactly how it came about. Fractions 0..1; CIDEr x 100.

    Attributes:
        n: samples that were scored.
        how: prompt, decoding, metric and everything else that a second person needs.
        failures: keys of samples that were wrong, with prompt, answer and reference, at most some dozens.
    """

    benchmark: str
    model: str
    n: int
    scores: dict[str, float]
    how: dict[str, Any]
    seconds: float
    failures: list[dict[str, str]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The card with the versions of what it ran on."""
        packages = {name: version(name) for name in ("openpali", "torch", "numpy", "pillow", "sentencepiece")}
        return {**asdict(self), "versions": {"python": platform.python_version(), **packages}}


@dataclass(frozen=True)
class Row:
    """One sample, what it should be answered, and what was."""

    example: Example
    sample: Sample
    prediction: Prediction


def ask(
    pali: Pali,
    source: Source,
    task: Task,
    n: int,
    advance: Advance,
    *,
    part: str | None = None,
    batch: int = 64,
) -> list[Row]:
    """Answer the first ``n`` samples of a source; what is random in a task comes from the fixed seed."""
    rows: list[Row] = []
    for indices in _batches(n, batch):
        examples = [source[i] for i in indices]
        samples = [task.write(e, rng_of(SEED, i)) for e, i in zip(examples, indices, strict=True)]
        answers = pali.predict([e.images for e in examples], [s.prompt for s in samples], task=task, part=part)
        rows += [Row(*row) for row in zip(examples, samples, answers, strict=True)]
        advance(len(rows), n)
    return rows


@dataclass(frozen=True)
class Result:
    """Scores and the rows they come from."""

    scores: dict[str, float]
    rows: Sequence[Row] = ()
    wrong: Sequence[int] = ()  # indices into rows


def run(name: str, score: Callable[[Pali, int, Advance], Result], pali: Pali, n: int, advance: Advance) -> Card:
    """Run one benchmark on ``n`` samples."""
    torch.manual_seed(0)
    began = time.perf_counter()
    result = score(pali, n, advance)
    failures = [_failure(result.rows[i]) for i in list(result.wrong)[:50]]
    how: dict[str, Any] = {"decoding": "greedy", "seed": SEED, "split": "heldout"}
    if result.rows:
        how["prompt"] = result.rows[0].sample.prompt
    return Card(name, str(pali.folder), n, result.scores, how, time.perf_counter() - began, failures)


def wrong_rows(values: Sequence[float], good: float) -> list[int]:
    """Samples that score below ``good``, the worst first."""
    order = np.argsort(values, kind="stable")
    return [int(i) for i in order if values[i] < good]


def _failure(row: Row) -> dict[str, str]:
    return {
        "key": row.example.key,
        "prompt": row.sample.prompt,
        "answer": row.prediction.answer.text,
        "reference": row.sample.target,
    }


def _batches(n: int, size: int) -> Iterator[range]:
    return (range(start, min(start + size, n)) for start in range(0, n, size))
