"""Locks that keep a second process away from a folder or a file.

File systems without locks, and Windows, are not protected: there, start only one process.
"""

from __future__ import annotations

import errno
import hashlib
import warnings
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from openpali.home import home

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class Unlocked(UserWarning):
    """This system has no locks."""


def lock(file: Path, busy: str) -> BinaryIO:
    """Hold a lock file, made if need be, until this process ends or the returned file is closed.

    On Windows a warning (:class:`Unlocked`) says that nothing is locked.

    Raises:
        ValueError: another process holds it; the message is ``busy``.
        OSError: it cannot be written.
    """
    held = file.open("ab")
    if fcntl is None:
        warnings.warn(
            f"this system has no file locks: let no second process write in {file.parent}", Unlocked, stacklevel=3
        )
        return held
    try:
        fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock, whose lock data workers would inherit
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):  # otherwise the file system has no locks
            held.close()
            raise ValueError(busy) from error
    return held


def lock_output(path: Path) -> BinaryIO | None:
    """Hold the right to append to a file, as :func:`lock`; None if it is not locked.

    The lock is in the cache folder: one on the file itself would end whenever the file is closed after an append.
    Nothing is locked on Windows, or where the cache folder cannot be written.
    """
    file = home() / "locks" / hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]
    if fcntl is None:
        return None
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        return lock(file, f"{path} is written by another process: wait for its end, or name another file")
    return None
