"""``nano-vocabulary`` and ``mini-vocabulary``: tokenizers trained on all captions of all stamps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from openpali_lab.worlds.builders.base import Dataset
from openpali_lab.worlds.vocabulary_texts import train_nano_vocabulary
from openpali_lab.worlds.world import World

MINI_PIECES = 16_384


def build_nano(folder: Path) -> None:
    """6144 pieces; ten languages count more than the others."""
    _train(folder)


def build_mini(folder: Path) -> None:
    """16384 pieces; only English counts more than the other languages."""
    _train(folder, vocab_size=MINI_PIECES, favoured=("en",))


def _train(folder: Path, **options: Any) -> None:
    stamps = World.load("mini").stamps
    captions = [(lang, text) for stamp in stamps for lang, text in sorted(stamp.captions.items())]
    tokenizer = train_nano_vocabulary(captions, texts=[stamp.name for stamp in stamps], **options)
    (folder / "tokenizer.model").write_bytes(tokenizer.proto)


_PARTS = ("stamps", "clipart")
NANO = Dataset(build_nano, parts=_PARTS, minutes=0.5)
MINI = Dataset(build_mini, parts=_PARTS, minutes=0.5)
