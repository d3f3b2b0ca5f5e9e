"""A language model of characters: how likely a character is after those before it.

Interpolated n-grams with the discount of Witten and Bell (1991), pruned by count: small enough to ship with a
reader of lines and to be searched in a browser. ``openpali calibrate`` stores it in the folder ``language`` of its
model. An n-gram is one integer: :data:`BITS` bits for each
character, its index in the alphabet of the reader, from 1; the last character is lowest.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

BITS = 10  # of a character: 5 of them fit a double of a browser exactly
ORDER = 5  # characters of the longest n-grams
_KEPT = 1 << 16  # probabilities that are not looked up again
SPACE = 1  # the number of the space, which begins and ends every text
STORED = {"ngrams": np.int64, "log_probs": np.float32, "backoffs": np.float32}


@dataclass
class LanguageModel:
    """Log-probabilities of characters.

    Attributes:
        ngrams: increasing int64 ``[N]``, of 1 to :data:`ORDER` characters; every single character is there.
        log_probs: natural logarithm of the probability of its last character after the others, float ``[N]``.
        backoffs: what a shorter context is multiplied by where this one does not know a character; its logarithm.
    """

    ngrams: NDArray[np.int64]
    log_probs: NDArray[np.float32]
    backoffs: NDArray[np.float32]

    def __post_init__(self) -> None:
        # lists: one number is found much faster than in an array
        self._keys: list[int] = self.ngrams.tolist()
        self._known = lru_cache(_KEPT)(self._find)

    def log_prob(self, context: int, number: int) -> float:
        """Of the character ``number`` after ``context``, an n-gram of ``ORDER - 1`` characters at most."""
        return self._known(context, number)

    def _find(self, context: int, number: int) -> float:
        place = self._place(context << BITS | number)
        if place is not None:
            return float(self.log_probs[place])
        own = self._place(context)
        return (0.0 if own is None else float(self.backoffs[own])) + self.log_prob(shortened(context), number)

    def _place(self, ngram: int) -> int | None:
        place = bisect_left(self._keys, ngram)
        return place if place < len(self._keys) and self._keys[place] == ngram else None


def shortened(ngram: int) -> int:
    """An n-gram without its first character."""
    return ngram & ((1 << max(0, ngram.bit_length() - 1) // BITS * BITS) - 1)


def extended(context: int, number: int) -> int:
    """The context of the character after ``number``: the last ``ORDER - 1`` characters."""
    return (context << BITS | number) & ((1 << BITS * (ORDER - 1)) - 1)


def stored(language: LanguageModel) -> dict[str, NDArray[Any]]:
    """The model as tensors, its logarithms in 16 bits."""
    halves = {name: getattr(language, name).astype(np.float16) for name in ("log_probs", "backoffs")}
    return {"ngrams": language.ngrams, **halves}


def open_language(tensors: Mapping[str, NDArray[Any]]) -> LanguageModel:
    """The model that was stored as these tensors."""
    return LanguageModel(*(tensors[name].astype(dtype) for name, dtype in STORED.items()))
