"""Every benchmark by name."""

from __future__ import annotations

import difflib

from openpali.eval.datasets.base import Benchmark
from openpali.eval.datasets.paper import PAPER
from openpali.eval.encoders import ENCODER_SETS
from openpali.eval.nano import EASY_VQA, world_benchmarks

_ALL = [*world_benchmarks("nano"), *world_benchmarks("mini"), EASY_VQA, *ENCODER_SETS, *PAPER]

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}


def find_benchmark(name: str) -> Benchmark:
    """A benchmark by name.

    Raises:
        ValueError: there is none of that name; the nearest is named.
    """
    if name not in BENCHMARKS:
        near = difflib.get_close_matches(name, BENCHMARKS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(BENCHMARKS)}"
        raise ValueError(f"no benchmark is called {name!r}; {hint}")
    return BENCHMARKS[name]
