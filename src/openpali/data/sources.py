"""Where examples come from, by name: the ``source`` of a recipe's mixture."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from openpali.data.stream import Source
from openpali.data.world.compose import WorldSource
from openpali.data.world.world import World


def open_source(name: str, options: dict[str, Any]) -> Source:
    """Open a source.

    ``nano/single`` and the like are composed by a world (``WORLD/KIND``, see :class:`WorldSource`).

    Raises:
        ValueError: no such source, or an option that it does not have.
        FileNotFoundError: its data set is not built.
    """
    world, slash, kind = name.partition("/")
    if not slash:
        raise ValueError(f"unknown source {name!r}: write WORLD/KIND, as in nano/single")
    return WorldSource(_world(world), kind, **options)


_world = lru_cache(maxsize=4)(World.load)
