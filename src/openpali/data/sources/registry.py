"""Where examples come from, by name: the ``source`` of a recipe's mixture."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from openpali.data.sources.base import Source
from openpali.data.sources.files import is_url
from openpali.data.sources.jsonl import JsonlSource
from openpali.data.sources.parquet import ParquetSource
from openpali.data.sources.records import Pictures, RecordSource
from openpali.data.sources.shards import ShardSource
from openpali.home import data_folder
from openpali.synth.compose import KINDS, WorldSource
from openpali.synth.world import World
from openpali.tasks.example import Size

SPLITS = {"easy-vqa": ("train", "test")}
"""Built data sets that are JSONL files, and their splits."""


RECORDS: dict[str, Callable[[str, Pictures], RecordSource]] = {
    ".jsonl": JsonlSource,
    ".tar": ShardSource,
    ".parquet": ParquetSource,
}
"""Kinds of the user's files."""


def open_source(name: str, options: dict[str, Any], *, least: Size | None = None) -> Source:
    """Open a source.

    ``nano/single`` and the like are composed by a world (``WORLD/KIND``, see :class:`WorldSource`); ``easy-vqa``
    is a built data set (option ``split``); everything else is the user's (docs/data.md): a ``.jsonl`` file, or
    WebDataset shards or Parquet files by a folder, a file, a pattern (``shards/train-*.tar``) or a URL. Their
    options ``frames`` and ``stride`` say which frames of a video file are taken.

    Args:
        least: how small JPEGs of files may be decoded; ``None`` is full size.

    Raises:
        ValueError: no such source, or an option that it does not have.
        FileNotFoundError: a file is missing, or its data set is not built.
    """
    if name in SPLITS:
        _check_options(name, options, "split")
        split = options.get("split", "train")
        if split not in SPLITS[name]:
            raise ValueError(f"{name} has no split {split!r}; there are {', '.join(SPLITS[name])}")
        path = data_folder(name) / f"{split}.jsonl"
        if not path.is_file():
            raise FileNotFoundError(f"no data file {path}: run `openpali data build {name} --force`")
        return JsonlSource(path, Pictures(least))
    folder = Path(name).expanduser().is_dir()
    kind = Path(name).suffix
    if folder or (is_url(name) and kind not in RECORDS):
        kind = ".parquet" if folder and any(Path(name).expanduser().glob("*.parquet")) else ".tar"
    if kind in RECORDS:
        _check_options(name, options, "frames", "stride")
        return RECORDS[kind](name, Pictures(least, **options))
    world, slash, what = name.partition("/")
    if not slash:
        raise ValueError(
            f"unknown source {name!r}; there are WORLD/KIND as in nano/{next(iter(KINDS))} (kinds: "
            f"{', '.join(KINDS)}), {', '.join(SPLITS)}, .jsonl files, and folders, patterns or URLs of .tar shards "
            "or .parquet files"
        )
    return WorldSource(_world(world), what, **options)


_world = lru_cache(maxsize=4)(World.load)


def _check_options(name: str, options: dict[str, Any], *known: str) -> None:
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}; it has {', '.join(known) or 'none'}")
