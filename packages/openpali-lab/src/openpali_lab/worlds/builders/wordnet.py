"""``wordnet``: the database with which NExT-QA's score compares words."""

from __future__ import annotations

import shutil
from pathlib import Path

from openpali_lab.worlds.builders import packages
from openpali_lab.worlds.builders.base import Dataset
from openpali_lab.worlds.builders.output import write_licences

PACKAGE = "wordnet-base"


def build(folder: Path) -> None:
    """Copy WordNet's data, index and exception files."""
    for path in sorted((packages.fetch(PACKAGE) / "usr/share/wordnet").iterdir()):
        if path.name.startswith(("data.", "index.")) or path.suffix == ".exc":
            shutil.copy(path, folder / path.name)
    write_licences(folder, [PACKAGE])


DATASET = Dataset(build, lambda: [PACKAGE], minutes=0.1, megabytes=7)
