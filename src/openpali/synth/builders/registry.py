"""Every data set that ``openpali data build`` can build. A new one is a file in this folder and a line below."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from openpali.home import home
from openpali.synth.builders import clipart, easy_vqa, fashion_mnist, stamps, vocabularies, wordnet

Builder = Callable[[Path], None]
"""Writes a data set into an empty folder."""

BUILDERS: dict[str, Builder] = {
    "stamps": stamps.build,
    "clipart": clipart.build,
    "easy-vqa": easy_vqa.build,
    "fashion-mnist": fashion_mnist.build,
    "wordnet": wordnet.build,
    **vocabularies.BUILDERS,
}
"""Name of the data set -> its builder. Data sets that are built from others come after them."""


def build(name: str, *, force: bool = False) -> Path:
    """Build the data set ``name`` (a key of :data:`BUILDERS`) and return its folder.

    A data set that exists is returned as it is unless ``force``. The folder appears complete or not at all.

    Raises:
        ValueError: there is no data set of this name.
        FileNotFoundError: a package cannot be fetched, or a data set that this one is built from is missing.
    """
    if name not in BUILDERS:
        raise ValueError(f"there is no data set {name!r}: choose one of {', '.join(BUILDERS)}")
    folder = home() / "data" / name
    if folder.is_dir() and not force:
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as work:
        new, old = Path(work) / "new", Path(work) / "old"
        new.mkdir()
        BUILDERS[name](new)
        if folder.is_dir():
            folder.rename(old)
        new.rename(folder)
    return folder
