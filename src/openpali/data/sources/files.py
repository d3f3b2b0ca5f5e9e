"""Files by name, here or behind a URL: found, opened, and read in stretches.

URLs go through fsspec (``s3://``, ``gs://``, ``https://``, ...). Nothing is opened that the user did not name.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any, BinaryIO, cast

from openpali.messages import reason

RETRIES = (0.5, 2.0, 8.0)  # seconds before a read from a URL is tried again


def is_url(name: str) -> bool:
    """Whether a name is a URL, and not a file of this machine."""
    return "://" in name


def find_files(pattern: str, suffix: str) -> list[str]:
    """The files that a name means, in order: a folder's files that end in ``suffix``, one file, or those that fit a
    pattern as in ``train-*.tar`` or ``train-{00000..00099}.tar``.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a URL of a kind that nothing here can open.
    """
    found = [name for each in _braces(pattern) for name in _listed(each, suffix)]
    if not found:
        raise FileNotFoundError(f"no {suffix} files at {pattern}")
    return found


def open_file(name: str) -> BinaryIO:
    """Open for reading. Raises ``OSError``."""
    if not is_url(name):
        return Path(name).open("rb")
    fs, path = _remote(name)
    try:
        return cast(BinaryIO, fs.open(path, "rb"))
    except Exception as error:
        raise _unreadable(name, error) from error


def read_span(name: str, start: int, size: int) -> bytes:
    """``size`` bytes from ``start`` on; behind a URL, what fails is tried again, after a while.

    Raises:
        OSError: it cannot be read, or ends before.
    """
    # Opened anew each time: nothing to share between processes, and no limit on the number of files.
    if not is_url(name):
        with Path(name).open("rb") as file:
            file.seek(start)
            data = file.read(size)
    else:
        data = _read_remote(name, start, size)
    if len(data) < size:
        raise OSError(f"{name} was cut off since it was opened: it has no {size:,} bytes from {start:,} on")
    return data


def _read_remote(name: str, start: int, size: int) -> bytes:
    fs, path = _remote(name)
    waits = iter(RETRIES)
    while True:
        try:
            return cast(bytes, fs.cat_file(path, start=start, end=start + size))
        except Exception as error:
            wait = next(waits, None)
            if wait is None or isinstance(error, FileNotFoundError | PermissionError):
                raise _unreadable(name, error) from error
        time.sleep(wait)


def fingerprint(name: str) -> str:
    """Changes whenever the file does (size and time, or what the other side says). Raises ``OSError``."""
    if not is_url(name):
        status = Path(name).stat()
        return f"{status.st_size}-{status.st_mtime_ns}"
    fs, path = _remote(name)
    try:
        return str(fs.ukey(path))
    except Exception as error:
        raise _unreadable(name, error) from error


def _braces(pattern: str) -> list[str]:
    """``a-{08..11}`` -> ``a-08``, ..., ``a-11``, as WebDataset writes ranges of shards."""
    found = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if not found:
        return [pattern]
    head, tail, width = pattern[: found.start()], pattern[found.end() :], len(found[1])
    numbers = range(int(found[1]), int(found[2]) + 1)
    return [name for number in numbers for name in _braces(f"{head}{number:0{width}d}{tail}")]


def _listed(pattern: str, suffix: str) -> list[str]:
    if not is_url(pattern):
        path = Path(pattern).expanduser()
        if path.is_dir():
            return [str(file) for file in sorted(path.glob(f"*{suffix}"))]
        if path.is_file():
            return [str(path)]
        return [str(file) for file in sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))]
    fs, remote = _remote(pattern)
    try:
        if "*" not in pattern and not fs.isdir(remote):
            return [pattern]
        names = fs.glob(remote if "*" in pattern else f"{remote.rstrip('/')}/*{suffix}")
    except Exception as error:
        raise _unreadable(pattern, error) from error
    return [fs.unstrip_protocol(name) for name in sorted(names)]


def _remote(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL (one per process and kind, kept by fsspec), and the path in it."""
    from fsspec.core import url_to_fs

    try:
        return cast(tuple[Any, str], url_to_fs(url))
    except ImportError as error:
        raise ValueError(f"{url}: {error} (pip install 'openpali[remote]' or the package that it names)") from error
    except ValueError as error:
        raise ValueError(f"{url}: {error}") from error


def _unreadable(name: str, error: Exception) -> OSError:
    """Backends raise errors of their own; to us they are all files that cannot be read."""
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(f"no file {name}")
    return OSError(f"{name} cannot be read: {reason(error)}")
