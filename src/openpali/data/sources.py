"""Where examples come from, by name: the ``source`` of a recipe's mixture."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from openpali.data.build import data_folder
from openpali.data.jsonl import JsonlSource
from openpali.data.shards import ShardSource
from openpali.data.stream import Source
from openpali.data.world.compose import KINDS, WorldSource
from openpali.data.world.world import World

SPLITS = {"easy-vqa": ("train", "test")}
"""Built data sets that are JSONL files, and their splits."""


def open_source(name: str, options: dict[str, Any]) -> Source:
    """Open a source.

    ``nano/single`` and the like are composed by a world (``WORLD/KIND``, see :class:`WorldSource`); ``easy-vqa``
    is a built data set (option ``split``); everything else is the user's (docs/data.md): a ``.jsonl`` file, or
    WebDataset shards by a folder, a file or a pattern (``shards/train-*.tar``).

    Raises:
        ValueError: no such source, or an option that it does not have.
        FileNotFoundError: a file is missing, or its data set is not built.
    """
    path = Path(name).expanduser()
    if path.suffix in (".jsonl", ".tar"):
        _check_options(name, options)
        return JsonlSource(path) if path.suffix == ".jsonl" else ShardSource(path)
    if name in SPLITS:
        _check_options(name, options, "split")
        split = options.get("split", "train")
        if split not in SPLITS[name]:
            raise ValueError(f"{name} has no split {split!r}; there are {', '.join(SPLITS[name])}")
        return JsonlSource(data_folder(name) / f"{split}.jsonl")
    if path.is_dir():
        _check_options(name, options)
        return ShardSource(path)
    world, slash, kind = name.partition("/")
    if not slash:
        raise ValueError(
            f"unknown source {name!r}; there are WORLD/KIND as in nano/{next(iter(KINDS))} (kinds: "
            f"{', '.join(KINDS)}), {', '.join(SPLITS)}, .jsonl files, and folders or patterns of .tar shards"
        )
    return WorldSource(_world(world), kind, **options)


_world = lru_cache(maxsize=4)(World.load)


def _check_options(name: str, options: dict[str, Any], *known: str) -> None:
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}; it has {', '.join(known) or 'none'}")
