"""Fitting the language model of a reader, and storing it in its model folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from openpali.infer.bundle import Bundle
from openpali.tensors import MappedTensors, write_tensors
from openpali.text.characters import plain
from openpali.weights.files import LANGUAGE
from openpali_screen.language import BITS, ORDER, SPACE, STORED, LanguageModel, open_language
from openpali_screen.parts import READER
from openpali_screen.read.network import Reader

_LEAST = (1, 1, 3, 6, 8)  # occurrences of an n-gram of 1 to ORDER characters that is kept

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


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
    return open_language({name: tensors[name].numpy() for name in STORED})


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
