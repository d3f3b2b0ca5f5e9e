"""Every benchmark and every suite by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from openpali.data.sources.registry import holds_records
from openpali.eval.benchmark import DEV, Benchmark, own_benchmark
from openpali.eval.splits import EvalSplit
from openpali.extensions import loaded
from openpali.messages import hint


@cache
def suites() -> Mapping[str, Sequence[Benchmark]]:
    """Suite -> its benchmarks, with the development sets that they have, whose names end in :data:`DEV`."""
    return loaded("suites", lambda _, benchmarks_of: benchmarks_of())


@cache
def benchmarks() -> Mapping[str, Benchmark]:
    """Name -> benchmark, of all suites."""
    return {benchmark.name: benchmark for suite in suites().values() for benchmark in suite}


def find_benchmark(name: str, task: str = "", options: Mapping[str, Any] | None = None) -> Benchmark:
    """A benchmark by name, or of your own data.

    Args:
        name: name of a benchmark, or a source.
        task, options: of a source, see :func:`~openpali.eval.benchmark.own_benchmark`.
    """
    if task and name in benchmarks():
        raise ValueError(f"benchmark {name} defines its task: leave out --task")
    if task or (name not in benchmarks() and holds_records(name)):
        return own_benchmark(name, task, options)
    if name not in benchmarks():
        raise ValueError(f"unknown benchmark {name!r}; {hint(name, benchmarks())}")
    return benchmarks()[name]


def on_split(benchmark: Benchmark, split: EvalSplit) -> Benchmark:
    """The same benchmark on another split."""
    name = benchmark.name.removesuffix(DEV) + (DEV if split == "dev" else "")
    if name not in benchmarks():
        raise ValueError(
            f"benchmark {benchmark.name} has no development set: leave out --split; those that are made on demand, "
            "such as nano/caption, have one"
        )
    return benchmarks()[name]


def benchmark_of(name: str, task: str) -> Benchmark:
    """The benchmark of a card or of saved answers, whose ``task`` tells how your own data was scored."""
    return find_benchmark(name, "" if name in benchmarks() else task)
