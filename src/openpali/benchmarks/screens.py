"""Benchmarks of screens, none of which is in the paper."""

from __future__ import annotations

from openpali.benchmarks import screenqa, screenspot, ui_refexp
from openpali.eval.benchmark import Benchmark

_DATASETS = (screenspot, screenqa, ui_refexp)


def suite() -> list[Benchmark]:
    return [benchmark for dataset in _DATASETS for benchmark in dataset.BENCHMARKS]
