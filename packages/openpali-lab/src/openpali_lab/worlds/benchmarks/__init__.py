"""The suites ``nano`` and ``mini``: benchmarks on what ``openpali data build`` makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from openpali.eval.benchmark import DEV, Benchmark
from openpali.eval.splits import EvalSplit
from openpali_lab.worlds.benchmarks.encoders import ENCODER_SETS
from openpali_lab.worlds.benchmarks.lines import REAL_LINE, line_benchmarks
from openpali_lab.worlds.benchmarks.nano import EASY_VQA, world_benchmarks
from openpali_lab.worlds.benchmarks.ood import ood_benchmark
from openpali_lab.worlds.benchmarks.small_probes import SMALL_FEWSHOT


def nano_suite() -> list[Benchmark]:
    """The benchmarks of the world nano, and of data sets that nobody needs a licence for."""
    made = _with_development(
        lambda split: [*world_benchmarks("nano", split), ood_benchmark("nano", split), *line_benchmarks(split)]
    )
    return [*made, EASY_VQA, REAL_LINE, *ENCODER_SETS, SMALL_FEWSHOT]


def mini_suite() -> list[Benchmark]:
    return _with_development(lambda split: world_benchmarks("mini", split))


def _with_development(made: Callable[[EvalSplit], Sequence[Benchmark]]) -> list[Benchmark]:
    return [*made("heldout"), *(replace(each, name=each.name + DEV) for each in made("dev"))]
