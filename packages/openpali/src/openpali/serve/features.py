"""What images that were seen lately look like to the model, so that many questions about one embed it once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from openpali.infer.pipeline import Features

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
        """Keep the features of an image in the place of earlier ones, and drop the oldest beyond the limit."""
        if features.tokens_ND.nbytes > self.limit:
            return
        if key in self._found:
            self.size -= self._found.pop(key).tokens_ND.nbytes
        self._found[key] = Features(*(each.clone() for each in features))  # no views, which would hold the batch
        self.size += features.tokens_ND.nbytes
        while self.size > self.limit:
            self.size -= self._found.popitem(last=False)[1].tokens_ND.nbytes
