"""All benchmarks of the paper: captions, questions, segmentation, video, encoder."""

from __future__ import annotations

from openpali.eval.benchmark import Benchmark
from openpali_lab.benchmarks import captions, fewshot, imagenet, questions, refcoco, retrieval, videos


def suite() -> list[Benchmark]:
    families = (captions, questions, refcoco, videos, retrieval, fewshot, imagenet)
    return [benchmark for family in families for benchmark in family.BENCHMARKS]
