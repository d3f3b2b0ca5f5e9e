"""Vocabularies built on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openpali.synth.build import BUILDERS, Builder
from openpali.synth.vocabulary_texts import train_nano_vocabulary
from openpali.synth.world import World

MINI_PIECES = 16_384


def _build_nano_vocabulary(folder: Path) -> None:
    """6144 pieces on the captions of all stamps in all languages, and the stamps' names."""
    _train(folder)


def _build_mini_vocabulary(folder: Path) -> None:
    """16384 pieces on the same, where no language but English counts more than another."""
    _train(folder, vocab_size=MINI_PIECES, favoured=("en",))


def _train(folder: Path, **options: Any) -> None:
    stamps = World.load("mini").stamps
    captions = [(lang, text) for stamp in stamps for lang, text in sorted(stamp.captions.items())]
    tokenizer = train_nano_vocabulary(captions, texts=[stamp.name for stamp in stamps], **options)
    (folder / "tokenizer.model").write_bytes(tokenizer.proto)


VOCABULARIES: Mapping[str, Builder] = {
    "nano-vocabulary": _build_nano_vocabulary,
    "mini-vocabulary": _build_mini_vocabulary,
}
ALL_BUILDERS: Mapping[str, Builder] = {**BUILDERS, **VOCABULARIES}
"""Every data set that can be built, those made out of others included."""
