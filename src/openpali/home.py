"""Where OpenPaLI keeps what it fetched and built."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The cache folder: ``$OPENPALI_HOME``, or ``~/.cache/openpali``. It need not exist yet."""
    return Path(os.environ.get("OPENPALI_HOME") or Path.home() / ".cache" / "openpali").expanduser()
