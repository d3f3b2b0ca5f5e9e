"""The layouts as a module that tests can import."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def wordnet(world_with_vocabulary: Path) -> Path:
    """A WordNet that knows no words in the home: the same words are alike, and no others."""
    folder = world_with_vocabulary / "data" / "wordnet"
    folder.mkdir(exist_ok=True)  # other tests leave empty folders for all data sets
    for name in ("noun", "verb", "adj", "adv"):
        for file in (f"data.{name}", f"index.{name}", f"{name}.exc"):
            (folder / file).write_text("")
    return folder
