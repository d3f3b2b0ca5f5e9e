"""Benchmarks of screens, none of which is in the paper."""

from __future__ import annotations

from openpali.eval.benchmark import Benchmark
from openpali_lab.benchmarks import screenqa, screenspot

_DATASETS = (screenspot, screenqa)


def suite() -> list[Benchmark]:
    return [benchmark for dataset in _DATASETS for benchmark in dataset.BENCHMARKS]
