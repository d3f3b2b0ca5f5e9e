"""All benchmarks of the paper: captions, questions, segmentation, video, encoder."""

from __future__ import annotations

from openpali.eval.benchmark import Benchmark
from openpali_lab.benchmarks import captions, fewshot, questions, refcoco, retrieval, videos


def suite() -> list[Benchmark]:
    families = (captions, questions, refcoco, videos, retrieval, fewshot)
    return [benchmark for family in families for benchmark in family.BENCHMARKS]
