"""Benchmarks of screens and of whole pages, none of which is in the paper."""

from __future__ import annotations

from openpali.benchmarks import omnidocbench, screenqa, screenspot, ui_refexp
from openpali.eval.benchmark import Benchmark

_DATASETS = (screenspot, screenqa, ui_refexp, omnidocbench)


def suite() -> list[Benchmark]:
    return [benchmark for dataset in _DATASETS for benchmark in dataset.BENCHMARKS]
