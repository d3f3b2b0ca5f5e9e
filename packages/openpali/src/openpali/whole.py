"""Writing files and folders that are there whole or not at all."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the path into errors of the system that name none, as when a disk is full while a file is written."""
    try:
        yield
    except OSError as error:
        if error.errno and error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write at, which becomes ``path`` when the block ends, or is removed if the block raises an error.

    The new file or folder is beside ``path``, under a name of its own, so that several processes may write it. An
    old file is replaced; folders above are made. Nothing is flushed to the disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        with naming(path):
            yield new
        new.replace(path)
    finally:
        if new.is_dir():
            shutil.rmtree(new, ignore_errors=True)
        else:
            new.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file as :func:`replacing` does."""
    with replacing(path) as new:
        new.write_bytes(data)
