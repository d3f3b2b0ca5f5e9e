"""The runs in the cache folder: what there is, how large it is, and finding and removing it."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any

from openpali.home import home
from openpali.locks import lock
from openpali.messages import hint
from openpali.weights.files import LOCK, RECORD


@dataclass(frozen=True)
class StoredRun:
    """A run in the cache folder.

    ``samples`` are those of its newest checkpoint, of ``total``; None if they cannot be read. ``bytes`` are those
    of all files, and ``changed`` is when its record or logs were last written, in seconds since 1970.
    """

    name: str
    folder: Path
    samples: int | None
    total: int | None
    bytes: int
    changed: float

    def as_json(self) -> dict[str, Any]:
        """Its attributes; the folder as text."""
        return {**asdict(self), "folder": str(self.folder)}


def folder_for(name: str, given: Path | None = None) -> Path:
    """The folder of a run: the one that is given, or by default in the cache, by the run's name."""
    if given is None:
        return home() / "runs" / name
    if Path.cwd().is_relative_to(given.resolve()) and not (given / RECORD).is_file():
        raise ValueError(f"--run {given} is the folder that you are in, or above it: name one of its own")
    return given


def find_runs() -> list[StoredRun]:
    """Every run in the cache folder, by name."""
    return [_read(name, folder) for name, folder in _folders().items()]


def find_run(name: str) -> Path:
    """The folder of a run in the cache folder, by name.

    Raises:
        ValueError: there is no such run.
    """
    folders = _folders()
    if name not in folders:
        raise ValueError(f"no run {name!r} in {home() / 'runs'}; {hint(name, folders)}")
    return folders[name]


def remove_run(name: str) -> StoredRun:
    """Delete a run in the cache folder, with its models and checkpoints."""
    folder = find_run(name)
    if inner := [other for other, place in _folders().items() if folder in place.parents]:
        raise ValueError(f"the run {name} holds {inner[0]}: remove that first")
    with lock(folder / LOCK, f"{folder} is trained by another process: wait for its end"):
        run = _read(name, folder)
        shutil.rmtree(folder)
    return run


def _folders() -> dict[str, Path]:
    """Every run in the cache folder: name -> folder."""
    root = home() / "runs"
    found = {record.parent.relative_to(root).as_posix(): record.parent for record in root.rglob(RECORD)}
    return dict(sorted(found.items()))


def _read(name: str, folder: Path) -> StoredRun:
    from openpali.train.checkpoint import checkpoints, read_state  # import torch, which finding a run does not need
    from openpali.train.load import read_record

    samples, total, size, changed = None, None, 0, 0.0
    with suppress(OSError, ValueError):  # of another version, damaged, or deleted meanwhile
        total = read_record((folder / RECORD).read_text("utf-8")).samples
        samples = read_state(saved[-1])["samples"] if (saved := checkpoints(folder)) else 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a training has renamed or deleted it meanwhile
            status = file.stat()
            if S_ISREG(status.st_mode):
                size += status.st_size
                changed = max(changed, status.st_mtime) if file.parent == folder else changed
    return StoredRun(name, folder, samples, total, size, changed)
