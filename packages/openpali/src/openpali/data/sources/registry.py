"""Sources of examples by name: the ``source`` of a recipe's mixture."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Protocol

from openpali.data.media.loader import MediaLoader
from openpali.data.sources.base import Source
from openpali.data.sources.files import find_files, is_url
from openpali.data.sources.jsonl import JsonlSource
from openpali.data.sources.parquet import ParquetSource
from openpali.data.sources.records import RecordSource
from openpali.data.sources.shards import ShardSource
from openpali.extensions import added
from openpali.tasks.example import Size

RECORDS: dict[str, Callable[[str, MediaLoader], RecordSource]] = {
    ".jsonl": JsonlSource,
    ".parquet": ParquetSource,
    ".tar": ShardSource,
}
"""Suffix of a user's files -> the source that reads them. A folder is read as the first of them that it holds."""


class Opener(Protocol):
    """Opens the sources of an extension; raises as :func:`open_source`, whose arguments it takes."""

    def __call__(self, name: str, options: dict[str, Any], min_size: Size | None) -> Source: ...


def open_source(name: str, options: dict[str, Any], *, min_size: Size | None = None) -> Source:
    """Open a source.

    Args:
        name: one of

            - a user's data (docs/data.md): a ``.jsonl`` file, or WebDataset shards or Parquet files by a folder, a
              file, a pattern (``shards/train-*.tar``) or a URL. The options ``frames`` and ``stride`` choose the
              frames of video files.
            - a source of an extension, by its name alone or with more after a slash, as in ``nano/single``, and
              for built data the version, as in ``pages/themes@2``.
        options: keyword options of the source.
        min_size: smallest size at which JPEG files may be decoded; ``None`` is full size.
    """
    suffix = _file_suffix(name)
    if suffix in RECORDS:
        check_options(name, options, "frames", "stride")
        return RECORDS[suffix](name, MediaLoader(min_size, **options))
    opener: Opener = resolve_name(_find_opener(name))
    return opener(name, options, min_size)


def check_source(name: str) -> None:
    """Raise what :func:`open_source` raises for a file or folder that is not there, and open none."""
    if not holds_records(name):
        _find_opener(name)
    elif not is_url(name):
        find_files(name, _file_suffix(name))


def _find_opener(name: str) -> str:
    openers = added("sources")
    if (kind := re.split("[/@]", name)[0]) in openers:
        return openers[kind]
    if Path(name).expanduser().is_file():
        raise ValueError(f"{name} cannot be a source: its name must end in {' or '.join(RECORDS)}")
    raise ValueError(
        f"unknown source {name!r}: there is no such file or folder; give a .jsonl file, a folder, pattern or URL "
        f"of .tar shards or .parquet files, or one that is built ({', '.join(openers)})"
    )


def holds_records(name: str) -> bool:
    """Whether a source is a user's data: a ``.jsonl`` file, or shards or Parquet files; they need not exist."""
    return _file_suffix(name) in RECORDS


def _file_suffix(name: str) -> str:
    """The suffix of the files that ``name`` stands for; a URL without one has ``.tar`` files."""
    path = Path(name).expanduser()
    if path.is_dir() and name not in added("sources"):
        suffixes = [suffix for suffix in RECORDS if suffix != ".jsonl"]
        for suffix in suffixes:
            if any(path.glob(f"*{suffix}")):
                return suffix
        raise FileNotFoundError(
            f"no {' or '.join(suffixes)} files in the folder {name}; name a .jsonl file by its own path"
        )
    return ".tar" if is_url(name) and path.suffix not in RECORDS else path.suffix


def check_options(name: str, options: dict[str, Any], *known: str) -> None:
    """Raise ``ValueError`` for an option of a source that is not one of ``known``."""
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}; its options are {', '.join(known) or 'none'}")
