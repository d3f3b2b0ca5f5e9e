"""Every benchmark by name."""

from __future__ import annotations

from openpali.data.sources.registry import holds_records
from openpali.eval.datasets.base import Benchmark, own_benchmark
from openpali.eval.datasets.paper import PAPER
from openpali.eval.encoders import ENCODER_SETS
from openpali.eval.lines import LINES
from openpali.eval.nano import EASY_VQA, world_benchmarks
from openpali.eval.ood import NANO_OOD
from openpali.eval.small_probes import SMALL_FEWSHOT
from openpali.messages import hint

_ALL = [
    *world_benchmarks("nano"),
    *world_benchmarks("mini"),
    NANO_OOD,
    EASY_VQA,
    *LINES,
    *ENCODER_SETS,
    SMALL_FEWSHOT,
    *PAPER,
]

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}


def find_benchmark(name: str, task: str = "") -> Benchmark:
    """A benchmark by name, or of your own data.

    Args:
        name: name of a benchmark, or a source.
        task: task for a source, see :func:`~openpali.eval.datasets.base.own_benchmark`.

    Raises:
        FileNotFoundError: a file of the source is missing.
        ValueError: unknown name (the message names the nearest); ``task`` is given for a benchmark; or the source
            cannot be opened.
    """
    if task and name in BENCHMARKS:
        raise ValueError(f"benchmark {name} defines its task: leave out --task")
    if task or (name not in BENCHMARKS and holds_records(name)):
        return own_benchmark(name, task)
    if name not in BENCHMARKS:
        raise ValueError(f"unknown benchmark {name!r}; {hint(name, BENCHMARKS)}")
    return BENCHMARKS[name]


def benchmark_of(name: str, task: str) -> Benchmark:
    """The benchmark of a card or of saved answers, whose ``task`` tells how your own data was scored.

    Raises:
        FileNotFoundError, ValueError: see :func:`find_benchmark`.
    """
    return find_benchmark(name, "" if name in BENCHMARKS else task)
