"""All benchmarks of the paper, in its order: captions, questions, segmentation, video, encoder."""

from __future__ import annotations

from openpali.eval.datasets import (
    activitynet,
    ai2d,
    chartqa,
    coco,
    documents,
    fewshot,
    imagenet,
    msrvtt,
    msvd,
    nextqa,
    nocaps,
    ocrvqa,
    refcoco,
    rico,
    stvqa,
    tallyqa,
    textvqa,
    vatex,
    vqa,
    xm3600,
)
from openpali.eval.datasets.base import Benchmark

_FAMILIES: tuple[tuple[Benchmark, ...], ...] = (
    coco.BENCHMARKS,
    nocaps.BENCHMARKS,
    xm3600.BENCHMARKS,
    rico.BENCHMARKS,
    textvqa.BENCHMARKS,
    vqa.BENCHMARKS,
    tallyqa.BENCHMARKS,
    stvqa.BENCHMARKS,
    ocrvqa.BENCHMARKS,
    documents.BENCHMARKS,
    chartqa.BENCHMARKS,
    ai2d.BENCHMARKS,
    refcoco.BENCHMARKS,
    msrvtt.BENCHMARKS,
    vatex.BENCHMARKS,
    activitynet.BENCHMARKS,
    msvd.BENCHMARKS,
    nextqa.BENCHMARKS,
    fewshot.BENCHMARKS,
    imagenet.BENCHMARKS,
)

PAPER: tuple[Benchmark, ...] = tuple(benchmark for family in _FAMILIES for benchmark in family)
