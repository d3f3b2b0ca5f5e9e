"""The cache folder of fetched packages and built data sets."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The cache folder: ``$OPENPALI_HOME``, or ``~/.cache/openpali``. It may not exist yet."""
    return Path(os.environ.get("OPENPALI_HOME") or Path.home() / ".cache" / "openpali").expanduser()


def data_folder(name: str) -> Path:
    """Folder of the built data set ``name``.

    Raises:
        FileNotFoundError: the data set has not been built.
    """
    folder = home() / "data" / name
    if not folder.is_dir():
        raise FileNotFoundError(f"the data set {name} is not built: run `openpali data build {name}`")
    return folder
