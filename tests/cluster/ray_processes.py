"""The processes of this session's Ray clusters, what tests wait for, and commands that docs/serving.md shows."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Callable
from pathlib import Path


def wait_for(ready: Callable[[], object], what: str, seconds: float = 600) -> None:
    """Wait until ``ready`` is true."""
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until, f"there is still no {what}"
        time.sleep(0.2)


def processes(title: str) -> list[int]:
    """The ids of the processes of this session's clusters with this in their title."""
    found, home = [], f"OPENPALI_HOME={os.environ['OPENPALI_HOME']}\0".encode()  # this session's, and no other's
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line, environment = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
        except OSError:
            continue  # it has ended
        if line.startswith(b"ray::") and title.encode() in line and home in environment:
            found.append(int(folder.name))
    return sorted(found)


def documented(start: str) -> list[str]:
    """The words of the command of docs/serving.md that begins so, without settings of the environment."""
    text = (Path(__file__).parents[2] / "docs" / "serving.md").read_text("utf-8")
    lines = [line for block in re.findall(r"```bash\n(.*?)```", text, re.S) for line in block.splitlines()]
    [line] = [line for line in lines if line.startswith(start)]
    return [word for word in shlex.split(line) if not re.match("[A-Z_]+=", word)]
