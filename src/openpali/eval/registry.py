"""Every benchmark by name."""

from __future__ import annotations

from dataclasses import replace

from openpali.data.sources.registry import holds_records
from openpali.eval.datasets.base import DEV, Benchmark, own_benchmark
from openpali.eval.datasets.paper import PAPER
from openpali.eval.encoders import ENCODER_SETS
from openpali.eval.lines import REAL_LINE, line_benchmarks
from openpali.eval.nano import EASY_VQA, world_benchmarks
from openpali.eval.ood import ood_benchmark
from openpali.eval.small_probes import SMALL_FEWSHOT
from openpali.eval.splits import EvalSplit
from openpali.messages import hint


def _made(split: EvalSplit) -> list[Benchmark]:
    """The benchmarks whose samples are made on demand, of which there are development sets."""
    return [
        *world_benchmarks("nano", split),
        *world_benchmarks("mini", split),
        ood_benchmark("nano", split),
        *line_benchmarks(split),
    ]


_ALL = [*_made("heldout"), EASY_VQA, REAL_LINE, *ENCODER_SETS, SMALL_FEWSHOT, *PAPER]
_DEVELOPMENT = [replace(benchmark, name=benchmark.name + DEV) for benchmark in _made("dev")]

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in [*_ALL, *_DEVELOPMENT]}


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


def on_split(benchmark: Benchmark, split: EvalSplit) -> Benchmark:
    """The same benchmark on another split.

    Raises:
        ValueError: it has no development set.
    """
    name = benchmark.name.removesuffix(DEV) + (DEV if split == "dev" else "")
    if name not in BENCHMARKS:
        raise ValueError(
            f"benchmark {benchmark.name} has no development set: leave out --split; those that are made on demand, "
            "such as nano/caption, have one"
        )
    return BENCHMARKS[name]


def benchmark_of(name: str, task: str) -> Benchmark:
    """The benchmark of a card or of saved answers, whose ``task`` tells how your own data was scored.

    Raises:
        FileNotFoundError, ValueError: see :func:`find_benchmark`.
    """
    return find_benchmark(name, "" if name in BENCHMARKS else task)
