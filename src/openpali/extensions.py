"""What other packages add to OpenPaLI: commands, data sets, architectures, objectives and others.

A package declares an :class:`Extension`, which names what it adds: nothing is imported before it is used.
Those of this repository are in :data:`OWN`. Others announce theirs in their ``pyproject.toml``::

    [project.entry-points."openpali.extensions"]
    mine = "my_package.extension:EXTENSION"
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, TypeVar

T = TypeVar("T")
GROUP = "openpali.extensions"
OWN = tuple(f"openpali.{name}.extension:EXTENSION" for name in ("worlds", "benchmarks", "cluster", "lab", "onnx"))


@dataclass(frozen=True)
class Extension:
    """The names of what a package adds -> where it is, as ``module:name``.

    Attributes:
        commands: command as it is typed after ``openpali``, such as ``data build`` -> a function as typer takes it.
        options: option of a command of the core, such as ``predict --ray`` -> the function that does its work.
        datasets: data set of ``openpali data build`` -> its :class:`~openpali.worlds.builders.base.Dataset`.
        sources: first part of a source's name, up to a slash -> an
            :class:`~openpali.data.sources.registry.Opener`.
        architectures: kind of a model -> its :class:`~openpali.architectures.base.Architecture`.
        objectives: ``objective`` of a recipe -> its :class:`~openpali.train.objectives.base.Objective`.
        suites: suite of ``openpali eval --suite`` -> a function without arguments that returns its benchmarks.
    """

    commands: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    datasets: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    architectures: Mapping[str, str] = field(default_factory=dict)
    objectives: Mapping[str, str] = field(default_factory=dict)
    suites: Mapping[str, str] = field(default_factory=dict)


class LeftOut(UserWarning):
    """An extension cannot be used."""


@cache
def extensions() -> dict[str, Extension]:
    """Every extension on this machine, by where it is."""
    found: dict[str, Extension] = {}
    for name in (*OWN, *_announced()):
        try:
            found[name] = resolve_name(name)
            if not isinstance(found[name], Extension):
                raise TypeError("it is no Extension: announce module:NAME")
        except Exception as error:
            _leave_out(found, name, error)
    return found


def _leave_out(found: dict[str, Extension], name: str, error: Exception) -> None:
    """Drop an extension with one warning, whatever it raised: nobody else's work ends with it."""
    found.pop(name, None)
    warnings.warn(f"the extension {name} is left out: {type(error).__name__}: {error}", LeftOut, stacklevel=3)


def _announced() -> list[str]:
    """The extensions of other packages; to see that there is none is faster than to import importlib.metadata."""
    files = (file for folder in sys.path for file in Path(folder).glob("*.dist-info/entry_points.txt"))
    if not any(GROUP in file.read_text("utf-8", "ignore") for file in files):
        return []
    from importlib.metadata import entry_points

    return [each.value for each in entry_points(group=GROUP)]


def added(kind: str) -> dict[str, str]:
    """What all extensions add of a kind, an attribute of :class:`Extension`: name -> ``module:name``."""
    return {name: where for each in extensions().values() for name, where in getattr(each, kind).items()}


def loaded(kind: str, use: Callable[[str, Any], T]) -> dict[str, T]:
    """What ``use`` makes of the name and the object of everything that extensions add of a kind.

    An extension of which something cannot be imported or used is left out from then on.
    """
    made: dict[str, T] = {}
    for name, each in [*extensions().items()]:
        try:
            made |= {word: use(word, resolve_name(where)) for word, where in getattr(each, kind).items()}
        except Exception as error:
            _leave_out(extensions(), name, error)
    return made


def option(name: str) -> Callable[..., Any]:
    """The function behind an option of a command, such as ``predict --ray``."""
    function: Callable[..., Any] = resolve_name(added("options")[name])
    return function
