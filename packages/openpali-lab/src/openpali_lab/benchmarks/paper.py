"""All benchmarks of the paper, in its order: captions, questions, segmentation, video, encoder."""

from __future__ import annotations

from openpali.eval.benchmark import Benchmark
from openpali_lab.benchmarks import (
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

_DATASETS = (
    coco,
    nocaps,
    xm3600,
    rico,
    textvqa,
    vqa,
    tallyqa,
    stvqa,
    ocrvqa,
    documents,
    chartqa,
    ai2d,
    refcoco,
    msrvtt,
    vatex,
    activitynet,
    msvd,
    nextqa,
    fewshot,
    imagenet,
)


def suite() -> list[Benchmark]:
    return [benchmark for dataset in _DATASETS for benchmark in dataset.BENCHMARKS]
