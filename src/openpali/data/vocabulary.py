"""Vocabularies built on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from openpali.data.build import BUILDERS, Builder
from openpali.data.world.world import World
from openpali.text.vocabulary import train_nano_vocabulary


def _build_nano_vocabulary(folder: Path) -> None:
    """6144 pieces on the captions of all stamps in all languages, and the stamps' names."""
    stamps = World.load("mini").stamps
    captions = [(lang, text) for stamp in stamps for lang, text in sorted(stamp.captions.items())]
    tokenizer = train_nano_vocabulary(captions, texts=[stamp.name for stamp in stamps])
    (folder / "tokenizer.model").write_bytes(tokenizer.proto)


ALL_BUILDERS: Mapping[str, Builder] = {**BUILDERS, "nano-vocabulary": _build_nano_vocabulary}
"""Every data set that can be built, those made out of others included."""
