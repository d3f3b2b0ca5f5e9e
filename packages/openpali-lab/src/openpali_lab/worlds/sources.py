"""Sources of the worlds and of built data sets."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from openpali.data.media.loader import MediaLoader
from openpali.data.sources.jsonl import JsonlSource
from openpali.data.sources.registry import check_options
from openpali.data.sources.shards import ShardSource
from openpali.home import data_folder
from openpali.tasks.example import Size
from openpali_lab.worlds.builders.manifest import check_version, set_files
from openpali_lab.worlds.compose import KINDS, WorldSource
from openpali_lab.worlds.icons import IconSource
from openpali_lab.worlds.world import World

SPLITS = ("train", "test")  # of easy-vqa

_world = lru_cache(maxsize=4)(World.load)


def open_world(name: str, options: dict[str, Any], min_size: Size | None = None) -> WorldSource:
    """``WORLD/KIND``, as in ``nano/single``: samples composed from a world, with the options of the kind."""
    world, slash, kind = name.partition("/")
    if not slash:
        raise ValueError(f"the source {name} needs a kind, as in {name}/{next(iter(KINDS))}: {', '.join(KINDS)}")
    return WorldSource(_world(world), kind, **options)


def open_easy_vqa(name: str, options: dict[str, Any], min_size: Size | None = None) -> JsonlSource:
    """``easy-vqa``; its option ``split`` is train or test."""
    check_options(name, options, "split")
    split = options.get("split", "train")
    if split not in SPLITS:
        raise ValueError(f"{name} has no split {split!r}: choose one of {', '.join(SPLITS)}")
    path = data_folder("easy-vqa") / f"{split}.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"no data file {path}: run `openpali data build easy-vqa --force`")
    return JsonlSource(path, MediaLoader(min_size))


def open_rendered(name: str, options: dict[str, Any], min_size: Size | None = None) -> ShardSource:
    """``DATASET/SET@VERSION``, as in ``pages/help@2``: rendered screens with their text and elements. The option
    ``shards`` is a number: only so many are used, the first ones."""
    check_options(name, options, "shards")
    return ShardSource(set_files(name, options.get("shards")), MediaLoader())


def open_icons(name: str, options: dict[str, Any], min_size: Size | None = None) -> IconSource:
    """``icons@VERSION``: drawings of icons that are learned from."""
    check_options(name, options)
    check_version(name)
    return IconSource(data_folder("icons"))
