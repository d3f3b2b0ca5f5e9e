"""Find, open and read files by name: paths on this machine, or URLs.

URLs go through fsspec (``s3://``, ``gs://``, ``https://``, ...). Only what the user names is opened.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any, BinaryIO, cast

from openpali.mistakes import reason

RETRIES = (0.5, 2.0, 8.0)  # seconds to wait before each retry of a read from a URL


def is_url(name: str) -> bool:
    """Whether a name is a URL rather than a path."""
    return "://" in name


def is_file(path: str | Path) -> bool:
    """Whether a path is that of a file; what is longer than a path may be, such as a data URI, is none."""
    try:
        return Path(path).is_file()
    except OSError:
        return False


def base_name(name: str) -> str:
    """The last part of a path or URL."""
    return name.rpartition("/")[2] if is_url(name) else Path(name).name


def relative_to(path: Path, folder: Path) -> str:
    """A path from a folder, both resolved, with ``/``; itself on another drive of Windows."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return path.as_posix()


def beside(name: str, other: str) -> str:
    """Name of the file ``other`` (a relative path) in the folder of the file ``name``."""
    return f"{name.rpartition('/')[0]}/{other}" if is_url(name) else str(Path(name).parent / other)


def find_files(pattern: str, suffix: str) -> list[str]:
    """The files that ``pattern`` names, sorted.

    Args:
        pattern: a folder, for its files that end in ``suffix``; a file; or a pattern such as ``train-*.tar`` or
            ``train-{00000..00099}.tar``.
    """
    found = []
    for each in _expand_braces(pattern):
        names = _list(each, suffix)
        if not names:
            of_range = each != pattern
            plain = f"no data file {pattern}" if suffix == ".jsonl" else f"no {suffix} files at {pattern}"
            raise FileNotFoundError(f"no file {each}, which {pattern} names" if of_range else plain)
        found += names
    return found


def open_file(name: str) -> BinaryIO:
    """Open a file for reading. Raises ``OSError``, with its name, if it cannot be read."""
    fs, path = _remote(name) if is_url(name) else (None, name)
    try:
        return cast(BinaryIO, fs.open(path, "rb")) if fs else Path(path).open("rb")
    except Exception as error:
        raise _read_error(name, error) from error


def read_beside(name: str, other: str, where: str) -> bytes:
    """The content of the file ``other``, a path relative to the folder of the file ``name``.

    Args:
        where: the record that names ``other``, for errors.
    """
    if is_url(other):
        raise ValueError(f"{where}: {other} is a URL: download the file, and give its path")
    try:
        with open_file(beside(name, other)) as file:
            return file.read()
    except OSError as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else OSError
        raise kind(f"{where}: {error}") from error


def read_span(name: str, start: int, size: int) -> bytes:
    """``size`` bytes from ``start`` on. Reads from URLs that fail are retried after :data:`RETRIES`."""
    # Opened for each read: processes share no file handles, and the number of files is not limited.
    if not is_url(name):
        with open_file(name) as file:
            file.seek(start)
            data = file.read(size)
    else:
        data = _read_remote(name, start, size)
    if len(data) < size:
        raise OSError(f"{name} was cut off while in use: it has no {size:,} bytes from {start:,} on")
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
                raise _read_error(name, error) from error
        time.sleep(wait)


def fingerprint(name: str) -> str:
    """A text that changes when the file changes (size and time, or fsspec's ``ukey``). Raises ``OSError``."""
    fs, path = _remote(name) if is_url(name) else (None, name)
    try:
        if fs:
            return str(fs.ukey(path))
        status = Path(path).stat()
        return f"{status.st_size}-{status.st_mtime_ns}"
    except Exception as error:
        raise _read_error(name, error) from error


def _expand_braces(pattern: str) -> list[str]:
    """``a-{08..11}`` -> ``a-08``, ..., ``a-11``, as WebDataset writes ranges of shards."""
    found = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if not found:
        return [pattern]
    head, tail, width = pattern[: found.start()], pattern[found.end() :], len(found[1])
    numbers = range(int(found[1]), int(found[2]) + 1)
    if not numbers:
        raise ValueError(f"{pattern}: the range {found[0]} ends before it begins")
    return [name for number in numbers for name in _expand_braces(f"{head}{number:0{width}d}{tail}")]


def _list(pattern: str, suffix: str) -> list[str]:
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
        raise _read_error(pattern, error) from error
    return [fs.unstrip_protocol(name) for name in sorted(names)]


def _remote(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL (fsspec keeps one per process and kind), and the path in it."""
    from fsspec.core import url_to_fs

    try:
        return cast(tuple[Any, str], url_to_fs(url))
    except ImportError as error:
        raise ValueError(f"{url}: {error} (pip install 'openpali[remote]' or the package that it names)") from error
    except ValueError as error:
        raise ValueError(f"{url}: {error}") from error


def _read_error(name: str, error: Exception) -> OSError:
    """An error of the system or of any fsspec backend as ``OSError``."""
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(f"no file {name}")
    return OSError(f"{name} cannot be read: {getattr(error, 'strerror', None) or reason(error)}")
