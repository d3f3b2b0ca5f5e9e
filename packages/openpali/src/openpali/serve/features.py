"""What images that were seen lately look like to the model, so that many questions about one embed it once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from torch import Tensor

FeatureKey = tuple[Hashable, str]
"""Whose image encoder it is (:attr:`Pipeline.vision_key`), and the hash of the pixels."""


@dataclass(frozen=True)
class Features:
    """An image as the model sees it.

    Attributes:
        tokens_ND: visual tokens.
        described_D: features of the OOD detector; None if no model with a detector has asked for them.
    """

    tokens_ND: Tensor
    described_D: Tensor | None = None


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
        tokens_ND, described_D = features.tokens_ND, features.described_D
        if tokens_ND.nbytes > self.limit:
            return
        if key in self._found:
            self.size -= self._found.pop(key).tokens_ND.nbytes
        # no views, which would hold the whole batch
        self._found[key] = Features(tokens_ND.clone(), None if described_D is None else described_D.clone())
        self.size += tokens_ND.nbytes
        while self.size > self.limit:
            self.size -= self._found.popitem(last=False)[1].tokens_ND.nbytes
