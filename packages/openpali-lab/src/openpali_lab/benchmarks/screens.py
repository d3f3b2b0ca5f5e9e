"""Benchmarks of screens, of whole pages and of text in images, none of which is in the paper."""

from __future__ import annotations

from openpali.eval.benchmark import Benchmark
from openpali_lab.benchmarks import ocrbench, omnidocbench, screenqa, screenspot, ui_refexp

_DATASETS = (screenspot, screenqa, ui_refexp, omnidocbench, ocrbench)


def suite() -> list[Benchmark]:
    return [benchmark for dataset in _DATASETS for benchmark in dataset.BENCHMARKS]
