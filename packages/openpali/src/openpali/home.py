"""Folders: what the package ships, and the cache of fetched packages and built data sets.

Several processes may write the cache at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from openpali.whole import replacing

FONTS = Path(__file__).parent / "fonts"  # for the captions of the nano world: openpali_lab.worlds.caption_fonts
DEMO = Path(__file__).parent / "demo"  # drawn by openpali_lab.worlds.demo
DEMO_SAMPLES = DEMO / "samples.jsonl"


def home() -> Path:
    """The cache folder: ``$OPENPALI_HOME``, or ``~/.cache/openpali``. It may not exist yet."""
    return Path(os.environ.get("OPENPALI_HOME") or Path.home() / ".cache" / "openpali").expanduser().absolute()


def data_folder(name: str) -> Path:
    """Folder of the built data set ``name``."""
    folder = home() / "data" / name
    if not folder.is_dir():
        raise FileNotFoundError(f"the data set {name} is not built: run `openpali data build {name}`")
    return folder


def make_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """The folder, made beside its place and moved there, unless it exists; several processes may try.

    Args:
        folder: to make.
        make: writes a folder, given its path beside ``folder``.
    """
    if folder.is_dir():
        return folder
    try:
        with replacing(folder) as written:
            make(written)
    except OSError:
        if not folder.is_dir():  # else another process was faster
            raise
    return folder
