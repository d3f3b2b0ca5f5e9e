"""Files of JSON lines that a killed process continues: whole lines are appended."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from openpali.whole import naming


def whole_lines(path: Path) -> bytes:
    """The file without what follows its last line end; empty if there is no file."""
    data = path.read_bytes() if path.is_file() else b""
    return data[: data.rfind(b"\n") + 1]


def drop_torn_line(path: Path) -> None:
    """Cut the file behind its last line end."""
    if path.is_file():
        length = len(whole_lines(path))
        with path.open("r+b") as file:
            file.truncate(length)


def as_lines(values: Iterable[Mapping[str, Any]]) -> bytes:
    """JSON objects, one per line."""
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values).encode("utf-8")


def append_lines(path: Path, values: Iterable[Mapping[str, Any]]) -> None:
    """Append JSON objects, one per line; they are on disk when this returns."""
    with naming(path), path.open("ab") as file:
        file.write(as_lines(values))
        file.flush()
        os.fsync(file.fileno())
