"""A language model of characters: how likely a character is after those before it.

Interpolated n-grams with the discount of Witten and Bell (1991), pruned by count: small enough to ship with a
reader of lines and to be searched in a browser. ``openpali calibrate`` stores it in the folder ``language`` of its
model. An n-gram is one integer: :data:`BITS` bits for each
character, its index in the alphabet of the reader, from 1; the last character is lowest.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from openpali.infer.bundle import Bundle
from openpali.tensors import MappedTensors, write_tensors
from openpali.text.characters import plain
from openpali.weights.files import LANGUAGE
from openpali_screen.parts import READER
from openpali_screen.read.network import Reader

BITS = 10  # of a character: 5 of them fit a double of a browser exactly
ORDER = 5  # characters of the longest n-grams
_KEPT = 1 << 16  # probabilities that are not looked up again
SPACE = 1  # the number of the space, which begins and ends every text
_LEAST = (1, 1, 3, 6, 8)  # occurrences of an n-gram of 1 to ORDER characters that is kept

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


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


def fit_language(texts: Iterable[str], characters: Sequence[str]) -> LanguageModel:
    """Fit the language model of a reader.

    Args:
        texts: at least one that is not empty.
        characters: that the reader writes, the first is the space; any other ends one text and begins another.
    """
    if len(characters) >= 1 << BITS:
        raise ValueError(f"{len(characters)} characters are too many: {(1 << BITS) - 1} at most")
    index = {character: number for number, character in enumerate(characters, SPACE)}
    stream = [0]
    for text in texts:
        stream += [SPACE, *(index.get(character, 0) for character in plain(text)), SPACE, 0]
    numbers = np.array(stream, np.int64)
    counts = np.bincount(numbers[numbers > 0], minlength=len(characters) + 1)[1:]
    kinds = np.count_nonzero(counts)
    ngrams = np.arange(1, len(characters) + 1)
    probs = (counts + kinds / len(counts)) / (counts.sum() + kinds)
    orders = [(ngrams, probs)]
    backoffs = []
    grown, whole = numbers, numbers > 0
    for order in range(2, ORDER + 1):
        last = numbers[order - 1 :]
        grown, whole = grown[:-1] << BITS | last, whole[:-1] & (last > 0)
        ngrams, counts = np.unique(grown[whole], return_counts=True)
        contexts, first, kinds = np.unique(ngrams >> BITS, return_index=True, return_counts=True)
        share = counts / np.repeat(np.add.reduceat(counts, first) + kinds, kinds)
        kept = counts >= _LEAST[order - 1]
        backoff = 1 - np.add.reduceat(np.where(kept, share, 0), first)
        shorter, shorter_probs = orders[-1]
        backoffs.append(_at(shorter, contexts, backoff, 1.0))
        lower = shorter_probs[np.searchsorted(shorter, ngrams[kept] & ((1 << BITS * (order - 1)) - 1))]
        orders.append((ngrams[kept], share[kept] + np.repeat(backoff, kinds)[kept] * lower))
    backoffs.append(np.ones(len(orders[-1][0])))
    ngrams, probs, backoff = (np.concatenate(parts) for parts in (*zip(*orders, strict=True), backoffs))
    return LanguageModel(ngrams, *(np.log(each).astype(np.float32) for each in (probs, backoff)))


def _at(wanted: Ints, known: Ints, values: Floats, default: float) -> Floats:
    """The value of each of ``wanted`` in ``known``, which increases; ``default`` of those that are not there."""
    if not len(known):
        return np.full(len(wanted), default)
    places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[places] == wanted, values[places], default)


def fit_reader(bundle: Bundle, texts: Iterable[str]) -> str:
    """Fit and store the language model of the part that reads lines; says what was fitted."""
    reader = cast(Reader, bundle.load(READER)[1])
    language = fit_language(texts, reader.config.characters)
    write_language(bundle.parts[READER], language)
    return f"{READER}: language model of {len(language.ngrams):,} n-grams"


def read_language(folder: Path) -> LanguageModel | None:
    """The language model in a model folder; None if it has none."""
    if not (folder / LANGUAGE).is_dir():
        return None
    tensors = MappedTensors(folder / LANGUAGE)
    log_probs, backoffs = (tensors[name].float().numpy() for name in ("log_probs", "backoffs"))
    return LanguageModel(tensors["ngrams"].numpy(), log_probs, backoffs)


def write_language(folder: Path, language: LanguageModel) -> None:
    """Store the language model of a reader in its folder, its probabilities as fp16."""
    write_tensors(
        folder / LANGUAGE,
        {
            "ngrams": torch.from_numpy(language.ngrams),
            "log_probs": torch.from_numpy(language.log_probs).half(),
            "backoffs": torch.from_numpy(language.backoffs).half(),
        },
    )
