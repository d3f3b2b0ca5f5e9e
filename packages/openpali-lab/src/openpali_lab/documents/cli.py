"""docs/cli.md, from the functions behind the command line: each command with its arguments and options.

``python -m openpali_lab.documents.cli``, run in the repository's folder, rewrites the page.
"""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from openpali.cli.main import app
from openpali_lab.__main__ import app as lab
from openpali_lab.documents.tables import option_cells, table

HEAD = """# Command line

Every command with its arguments and options; `openpali COMMAND --help` prints the same. `python -m
openpali_lab.documents.cli` generates this page.
"""
HEADER = ("argument or option", "type; default", "meaning")
TYPES = {str: "text", int: "integer", float: "number", Path: "path"}


class Row(NamedTuple):
    """An argument or an option."""

    name: str
    type: str
    default: str
    meaning: str


def commands(group: typer.Typer = app, prefix: str = "openpali") -> Iterator[tuple[str, Callable[..., Any]]]:
    """Each command as it is typed, with its function."""
    for command in group.registered_commands:
        assert command.callback
        yield f"{prefix} {command.name or command.callback.__name__}", command.callback
    for inner in group.registered_groups:
        assert inner.typer_instance
        yield from commands(inner.typer_instance, f"{prefix} {inner.name}")


def rows(verb: Callable[..., Any]) -> Iterator[Row]:
    """The arguments and options of a command, in their order, without hidden ones."""
    hints = get_type_hints(verb, include_extras=True)
    for name, parameter in inspect.signature(verb).parameters.items():
        kind, *extras = get_args(hints[name])
        [info] = [each for each in extras if isinstance(each, ArgumentInfo | OptionInfo)]
        if info.hidden:
            continue
        default = parameter.default
        shown = "required" if default is inspect.Parameter.empty else f"`{default}`" if _is_shown(default) else ""
        yield Row(f"`{_typed(name, kind, info)}`", _type(kind, info), shown, info.help or "")


def render() -> str:
    """The page; what several commands take is described once, at the top."""
    described = {
        words: (verb, list(rows(verb))) for words, verb in (*commands(), *commands(lab, "python -m openpali_lab"))
    }
    uses = Counter(row for _, found in described.values() for row in found)
    shared = [row for row, count in uses.items() if count > 1]
    lines = [HEAD, "## Options of several commands\n", *table(HEADER, [option_cells(*row) for row in shared]), ""]
    for words, (verb, found) in described.items():
        lines += [f"## {words}\n", f"{inspect.getdoc(verb)}\n"]
        if own := [row for row in found if row not in shared]:
            lines += [*table(HEADER, [option_cells(*row) for row in own]), ""]
        if others := [row.name for row in found if row in shared]:
            lines += [f"{'Also' if own else 'Options'}: {', '.join(others)}.\n"]
    return "\n".join(lines)


def _typed(name: str, kind: Any, info: ArgumentInfo | OptionInfo) -> str:
    if isinstance(info, ArgumentInfo):
        return info.metavar or name.upper()
    given = [each for each in (info.default, *(info.param_decls or ())) if isinstance(each, str)]  # as in Annotated
    option = f"--{name.replace('_', '-')}"
    return ", ".join(given or ([option, f"--no-{option[2:]}"] if kind is bool else [option]))


def _type(kind: Any, info: ArgumentInfo | OptionInfo) -> str:
    if get_origin(kind) in (Union, UnionType):
        [kind] = [each for each in get_args(kind) if each is not NoneType]
    if get_origin(kind) is list:
        return f"{_type(get_args(kind)[0], info)}, repeatable"
    if get_origin(kind) is Literal:
        return ", ".join(map(str, get_args(kind)))
    bounds = ((info.min, "at least"), (info.max, "at most"))
    limits = ", ".join(f"{words} {limit}" for limit, words in bounds if limit is not None)
    return " ".join(filter(None, ("flag" if kind is bool else TYPES[kind], limits)))


def _is_shown(default: Any) -> bool:
    return default is not None and default is not False and default != ""


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else "docs/cli.md").write_text(render(), "utf-8")
