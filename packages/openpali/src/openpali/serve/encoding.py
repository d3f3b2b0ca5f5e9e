"""Encoding requests that are decoded together: an image that was seen lately is not encoded again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any

from openpali.infer.pipeline import Features, Pipeline
from openpali.serve.tickets import Attempt
from openpali.tasks.example import Image

FeatureKey = tuple[Hashable, str]
"""Whose image encoder it is (:attr:`Pipeline.vision_key`), and the hash of the pixels."""


class FeatureCache:
    """The least recently used images leave when the bytes are spent. For one thread.

    Args:
        bytes_: most bytes of visual tokens to hold; 0: none.

    Attributes:
        hits, misses: how often an image was found, and was not.
        size: bytes that are held.
    """

    def __init__(self, bytes_: int) -> None:
        self.limit = bytes_
        self.size = self.hits = self.misses = 0
        self._found: OrderedDict[FeatureKey, Features] = OrderedDict()

    def get(self, key: FeatureKey) -> Features | None:
        """The features of an image; None if they are not here."""
        if key not in self._found:
            self.misses += 1
            return None
        self.hits += 1
        self._found.move_to_end(key)
        return self._found[key]

    def put(self, key: FeatureKey, features: Features) -> None:
        """Keep the features of an image that is not here, and drop the oldest beyond the limit."""
        if features.tokens_ND.nbytes > self.limit:
            return
        self._found[key] = Features(*(each.clone() for each in features))  # no views, which would hold the batch
        self.size += features.tokens_ND.nbytes
        while self.size > self.limit:
            self.size -= self._found.popitem(last=False)[1].tokens_ND.nbytes


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
