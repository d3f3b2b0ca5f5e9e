"""Suites: run many benchmarks, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from openpali.distributed import ALONE, Ranks
from openpali.eval.benchmark import DEV, Advance, AnswerBenchmark, Benchmark, unwatched
from openpali.eval.cards import Card
from openpali.eval.ocr import OcrEngine
from openpali.eval.registry import suites
from openpali.eval.runner import Run, run
from openpali.eval.splits import EvalSplit
from openpali.infer.pali import Pali
from openpali.infer.pipeline import BATCH
from openpali.tasks.registry import find_family


@dataclass(frozen=True)
class Outcome:
    """The result of one benchmark of a suite: a score card, or the reason why there is none."""

    benchmark: Benchmark
    card: Card | None = None
    problem: str = ""


def find_suite(name: str, split: EvalSplit = "heldout") -> list[Benchmark]:
    """The benchmarks of a suite, on the sets that cards are of or on those of development."""
    if name not in suites():
        raise ValueError(f"unknown suite {name!r}: choose one of {', '.join(suites())}")
    own = [each for each in suites()[name] if each.name.endswith(DEV) == (split == "dev")]
    if not own:
        raise ValueError(f"no benchmark of the suite {name} has a development set: leave out --split")
    return own


def file_stem(benchmark: str) -> str:
    """The name of a benchmark's files in a suite's folder, without ending."""
    return benchmark.replace("/", "-")


def run_suite(
    benchmarks: Sequence[Benchmark],
    pali: Pali,
    data: Path,
    *,
    out: Path | None = None,
    limit: int | None = None,
    batch: int = BATCH,
    ocr: OcrEngine | None = None,
    ranks: Ranks = ALONE,
    watch: Callable[[str], Advance] = lambda name: unwatched,
    finished: Callable[[Run], None] = lambda run: None,
) -> Iterator[Outcome]:
    """Run the benchmarks that the data and the model allow. A benchmark that cannot run is an outcome, too.

    Args:
        out: folder for the answers of each benchmark; an interrupted suite resumes from them.
        ocr: reads the images of the benchmarks whose prompt has a place for text.
        finished: called on rank 0 with each finished run.
        others: see :func:`~openpali.eval.runner.run`.
    """
    for benchmark in benchmarks:
        answers = isinstance(benchmark, AnswerBenchmark)
        takes_ocr = isinstance(benchmark, AnswerBenchmark) and find_family(benchmark.task).takes_ocr()
        try:
            done = run(
                benchmark,
                pali,
                data,
                limit=limit,
                batch=batch,
                ocr=ocr if takes_ocr else None,
                predictions=out / f"{file_stem(benchmark.name)}.jsonl" if out and answers else None,
                ranks=ranks,
                watch=watch(benchmark.name),
            )
        except (ValueError, OSError) as error:
            yield Outcome(benchmark, problem=str(error))
            continue
        if ranks.rank == 0:
            finished(done)
        yield Outcome(benchmark, done.card)
