"""Sources of examples by name: the ``source`` of a recipe's mixture."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from openpali.data.media.loader import MediaLoader
from openpali.data.sources.base import Source
from openpali.data.sources.files import is_url
from openpali.data.sources.jsonl import JsonlSource
from openpali.data.sources.parquet import ParquetSource
from openpali.data.sources.records import RecordSource
from openpali.data.sources.shards import ShardSource
from openpali.home import data_folder
from openpali.synth.compose import KINDS, WorldSource
from openpali.synth.world import World, world_names
from openpali.tasks.example import Size

SPLITS = {"easy-vqa": ("train", "test")}
"""Built data sets that are JSONL files -> their splits."""

PAGES = "pages/"
"""How the sources begin that are parts of the built data set ``pages``, such as ``pages/help-de``; * stands
for any."""

RECORDS: dict[str, Callable[[str, MediaLoader], RecordSource]] = {
    ".jsonl": JsonlSource,
    ".parquet": ParquetSource,
    ".tar": ShardSource,
}
"""Suffix of a user's files -> the source that reads them. A folder is read as the first of them that it holds."""


def open_source(name: str, options: dict[str, Any], *, min_size: Size | None = None) -> Source:
    """Open a source.

    Args:
        name: one of

            - ``WORLD/KIND``, as in ``nano/single``: samples composed from a world, see :class:`WorldSource`;
            - ``easy-vqa``: a built data set, with the option ``split``;
            - ``pages/SITE``, as in ``pages/help-*``: rendered pages with their text and elements;
            - a user's data (docs/data.md): a ``.jsonl`` file, or WebDataset shards or Parquet files by a folder, a
              file, a pattern (``shards/train-*.tar``) or a URL. The options ``frames`` and ``stride`` choose the
              frames of video files.
        options: keyword options of the source.
        min_size: smallest size at which JPEG files may be decoded; ``None`` is full size.

    Raises:
        ValueError: there is no such source, or it has no such option.
        FileNotFoundError: a file is missing, or the data set is not built.
    """
    if name in SPLITS:
        _check_options(name, options, "split")
        split = options.get("split", "train")
        if split not in SPLITS[name]:
            raise ValueError(f"{name} has no split {split!r}: choose one of {', '.join(SPLITS[name])}")
        path = data_folder(name) / f"{split}.jsonl"
        if not path.is_file():
            raise FileNotFoundError(f"no data file {path}: run `openpali data build {name} --force`")
        return JsonlSource(path, MediaLoader(min_size))
    if name.startswith(PAGES):
        _check_options(name, options)
        return ShardSource(data_folder("pages") / f"{name.removeprefix(PAGES)}-*.tar", MediaLoader())
    suffix = _file_suffix(name)
    if suffix in RECORDS:
        _check_options(name, options, "frames", "stride")
        return RECORDS[suffix](name, MediaLoader(min_size, **options))
    world, slash, kind = name.partition("/")
    if not slash or (kind not in KINDS and world not in world_names()):
        raise ValueError(_unknown(name))
    return WorldSource(_world(world), kind, **options)


def _unknown(name: str) -> str:
    """The error message for a name that is no source."""
    if Path(name).expanduser().is_file():
        return f"{name} cannot be a source: its name must end in {' or '.join(RECORDS)}"
    return (
        f"unknown source {name!r}: there is no such file or folder; give WORLD/KIND as in "
        f"nano/{next(iter(KINDS))} (kinds: {', '.join(KINDS)}), "
        f"{', '.join(SPLITS)}, a .jsonl file, or a folder, pattern or URL of .tar shards or .parquet files"
    )


def holds_records(name: str) -> bool:
    """Whether a source is a user's data: a ``.jsonl`` file, or shards or Parquet files; they need not exist."""
    return _file_suffix(name) in RECORDS


def _file_suffix(name: str) -> str:
    """The suffix of the files that ``name`` stands for; a URL without one has ``.tar`` files."""
    path = Path(name).expanduser()
    if path.is_dir():
        suffixes = [suffix for suffix in RECORDS if suffix != ".jsonl"]
        for suffix in suffixes:
            if any(path.glob(f"*{suffix}")):
                return suffix
        raise FileNotFoundError(
            f"no {' or '.join(suffixes)} files in the folder {name}; name a .jsonl file by its own path"
        )
    return ".tar" if is_url(name) and path.suffix not in RECORDS else path.suffix


_world = lru_cache(maxsize=4)(World.load)


def _check_options(name: str, options: dict[str, Any], *known: str) -> None:
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}; its options are {', '.join(known) or 'none'}")
