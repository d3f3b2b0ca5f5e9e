"""Tables that stand beside the code: a module's data are in the TOML file of its name."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any


def table_of(module: str) -> dict[str, Any]:
    """The table beside a module, by its ``__file__``."""
    return tomllib.loads(Path(module).with_suffix(".toml").read_text("utf-8"))
