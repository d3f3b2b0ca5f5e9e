"""Every benchmark by name."""

from __future__ import annotations

from openpali.eval.datasets.base import Benchmark
from openpali.eval.datasets.paper import PAPER
from openpali.eval.encoders import ENCODER_SETS
from openpali.eval.nano import EASY_VQA, world_benchmarks
from openpali.messages import hint

_ALL = [*world_benchmarks("nano"), *world_benchmarks("mini"), EASY_VQA, *ENCODER_SETS, *PAPER]

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}


def find_benchmark(name: str) -> Benchmark:
    """A benchmark by name.

    Raises:
        ValueError: unknown name; the message names the nearest.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"unknown benchmark {name!r}; {hint(name, BENCHMARKS)}")
    return BENCHMARKS[name]
