"""Encoding requests that are decoded together: an image that was seen lately is not encoded again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openpali.infer.pipeline import Features, Pipeline
from openpali.serve.features import FeatureCache
from openpali.serve.tickets import Attempt
from openpali.tasks.example import Image


def encode(pipeline: Pipeline, asked: Sequence[Attempt], cache: FeatureCache) -> Any:
    """The memory of attempts of one shape, which the engine decodes; their out-of-distribution scores are noted."""
    keys = [key for attempt in asked for key in attempt.keys]

    def features(images: Sequence[Image]) -> list[Features]:
        named = dict(zip(keys, images, strict=True))
        found = {key: known for key in named if (known := cache.get(key)) is not None}
        if unseen := [key for key in named if key not in found]:
            for key, new in zip(unseen, pipeline.features([named[key] for key in unseen]), strict=True):
                found[key] = new
                cache.put(key, new)
        return [found[key] for key in keys]

    memory, scores = pipeline.encode([attempt.row for attempt in asked], features)
    for attempt, score in zip(asked, scores, strict=True):
        attempt.ood_score = score
    return memory
