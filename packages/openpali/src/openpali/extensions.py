"""What other packages add to OpenPaLI: commands, data sets, architectures, objectives and others.

A package declares an :class:`Extension`, which names what it adds: nothing is imported before it is used. It
announces it in its ``pyproject.toml``::

    [project.entry-points."openpali.extensions"]
    mine = "my_package.extension:EXTENSION"
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from configparser import ConfigParser
from configparser import Error as ParserError
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, TypeVar

T = TypeVar("T")
GROUP = "openpali.extensions"


@dataclass(frozen=True)
class Extension:
    """The names of what a package adds -> where it is, as ``module:name``."""

    # command as it is typed after openpali, such as data build, or with the group of --help that lists it, as Ask:
    # read -> a function as typer takes it
    commands: Mapping[str, str] = field(default_factory=dict)
    # option of a command of the core, such as predict --ray -> the function that does its work
    options: Mapping[str, str] = field(default_factory=dict)
    datasets: Mapping[str, str] = field(default_factory=dict)  # data set of openpali data build -> its Dataset
    # first part of a source's name, up to a slash -> an Opener
    sources: Mapping[str, str] = field(default_factory=dict)
    architectures: Mapping[str, str] = field(default_factory=dict)  # kind of a model -> its Architecture
    objectives: Mapping[str, str] = field(default_factory=dict)  # objective of a recipe -> its Objective
    components: Mapping[str, str] = field(default_factory=dict)  # part of a bundle -> its Component
    # name -> a function of the Service that returns a router
    endpoints: Mapping[str, str] = field(default_factory=dict)
    # kind of a model -> a function of the model that returns its graphs (Graph), by file name without suffix
    graphs: Mapping[str, str] = field(default_factory=dict)
    # suite of openpali eval --suite -> a function without arguments that returns its benchmarks
    suites: Mapping[str, str] = field(default_factory=dict)
    scorers: Sequence[str] = ()  # files in the folder of the package that compute scores, as patterns


class LeftOut(UserWarning):
    """An extension cannot be used."""


@cache
def extensions() -> dict[str, Extension]:
    """Every extension on this machine, by where it is."""
    found: dict[str, Extension] = {}
    for name in _announced():
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
    """The entry points of installed packages, sorted; importlib.metadata takes longer to import."""
    found: set[str] = set()
    for file in (file for folder in sys.path for file in Path(folder).glob("*.dist-info/entry_points.txt")):
        if GROUP in (text := file.read_text("utf-8", "ignore")):
            parser = ConfigParser(delimiters="=", strict=False, interpolation=None)
            try:
                parser.read_string(text)
            except ParserError as error:
                warnings.warn(f"the entry points in {file} are left out: {error}", LeftOut, stacklevel=3)
                continue
            found.update(parser[GROUP].values() if GROUP in parser else ())
    return sorted(found)


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
