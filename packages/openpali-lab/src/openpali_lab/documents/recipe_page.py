"""The tables of docs/recipes.md, from the types that read a recipe: its keys, and the options of sources and tasks.

What a key means is what the docstring of its class or function says, under "Attributes" or "Args".
``python -m openpali_lab.documents.recipe_page``, run in the repository's folder, rewrites the tables.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from openpali.data.media.loader import MediaLoader
from openpali.data.sources.registry import RECORDS
from openpali.tasks.base import Task
from openpali.tasks.registry import TASKS
from openpali.train.objectives.registry import objectives
from openpali.train.recipe import (
    EvalSpec,
    LoraSpec,
    ModelSpec,
    OptimizerSpec,
    ParallelSpec,
    PhaseSpec,
    Recipe,
    SourceSpec,
)
from openpali.train.recipe_file import quote
from openpali_lab.documents.tables import option_cells, table, write_between
from openpali_lab.worlds.compose import KINDS, WorldSource
from openpali_lab.worlds.sources import SPLITS

KEYS = ("key", "type; default", "meaning")
OPTIONS = ("option", "type; default", "meaning")
REQUIRED = "required"


class Key(NamedTuple):
    """A row of a table: a key of a recipe, or an option."""

    name: str
    type: str
    default: str
    meaning: str


def render() -> str:
    """Markdown: the keys of recipes, then the options of sources and of tasks."""
    lines: list[str] = []
    for title, note, keys in _sections():
        lines += [
            f"### {title}",
            "",
            *([note, ""] if note else []),
            *([*table(KEYS, [option_cells(*key) for key in keys]), ""] if keys else []),
        ]
    return "\n".join([*lines, *_sources(), *_tasks()])


def write_into(path: Path) -> None:
    """Replace the tables of a document; raises ``ValueError`` if it has no marks."""
    write_between(path, "keys", render())


def recipe_keys(kind: type[BaseModel]) -> list[Key]:
    """The keys of a table of a recipe, without those of tables in it."""
    rows = []
    for name, field in kind.model_fields.items():
        bounds = ", ".join(filter(None, map(_bound, field.metadata)))
        said = _type(field.annotation) + (f", {bounds}" if bounds else "")
        default = REQUIRED if field.is_required() else _default(field.default)
        rows.append(Key(f"`{name}`", said, default, _meaning(kind, name)))
    return rows


def task_options(family: type[Task]) -> list[Key]:
    """The options of a task that a recipe can give; tools and the dialect are the model's."""
    hints, fields = get_type_hints(family), dataclasses.fields(family)
    return [
        Key(
            f"`{f.name}`",
            _type(hints[f.name]),
            _default(f.default if f.default_factory is dataclasses.MISSING else f.default_factory()),
            _meaning(family, f.name),
        )
        for f in fields
        if f.name not in {"dialect", *family.needs}
    ]


def source_options(made: Callable[..., Any], names: Sequence[str]) -> list[Key]:
    """Arguments of what makes a source, which are its options."""
    function = vars(made)["__init__"] if isinstance(made, type) else made
    hints, parameters = get_type_hints(function), inspect.signature(made).parameters
    return [
        Key(f"`{name}`", _type(hints[name]), _default(parameters[name].default), _meaning(made, name))
        for name in names
    ]


def _sections() -> Iterator[tuple[str, str, list[Key]]]:
    """Title, note and keys of each table."""
    names = [*objectives()]
    shared = [
        key._replace(type=_type(Literal[*names])) if key.name == "`objective`" else key
        for key in recipe_keys(Recipe)
    ]
    yield "Every recipe", "", shared
    yield "`[model]`", "", recipe_keys(ModelSpec)
    yield "`[model.lora]`", _summary(LoraSpec), recipe_keys(LoraSpec)
    yield "`[optimizer]`", _summary(OptimizerSpec), recipe_keys(OptimizerSpec)
    yield "`[parallel]`", _summary(ParallelSpec), recipe_keys(ParallelSpec)
    yield "`[[phases]]`", "", recipe_keys(PhaseSpec)
    entry = "`[entries.NAME]` has the same keys; mixtures by name give the weight."
    yield "`[[phases.mixture]]`", entry, recipe_keys(SourceSpec)
    known = {key.name for key in shared}
    in_model = {key.name for key in recipe_keys(ModelSpec)}
    for name, objective in objectives().items():
        kind = objective.recipe_class
        model: Any = kind.model_fields["model"].annotation
        own = [key for key in recipe_keys(kind) if key.name not in known]
        own += [
            key._replace(name=f"`model.{key.name.strip('`')}`")
            for key in recipe_keys(model)
            if key.name not in in_model
        ]
        note = _summary(kind) if own else f"{_summary(kind)} It has no keys of its own."
        yield f'`objective = "{name}"`', note, own
    note = (
        "`siglip` has benchmarks of embeddings, and no source; `find`, `elements` and `read` have a source of "
        "pages, and no task."
    )
    yield "`[[evals]]`", f"{_summary(EvalSpec)} {note}", recipe_keys(EvalSpec)


def _sources() -> list[str]:
    worlds = [
        name for name in inspect.signature(WorldSource).parameters if name not in ("world", "kind", "options")
    ]
    files = ", ".join(f"`{suffix}`" for suffix in RECORDS)
    rows = [
        (f"`WORLD/{kind}`", key)
        for kind, made in KINDS.items()
        for key in source_options(made, [name for name in inspect.signature(made).parameters if name != "sampler"])
    ]
    rows += [("`WORLD/...`, each", key) for key in source_options(WorldSource, worlds)]
    rows += [("files", key) for key in source_options(MediaLoader, ("frames", "stride"))]
    rows += [("`easy-vqa`", Key("`split`", _type(Literal[SPLITS]), quote(SPLITS[0]), "part of the data set"))]
    return [
        "### Sources",
        "",
        "A source is one of",
        "",
        f"- your files ({files}; [data.md](data.md));",
        "- a built data set: `easy-vqa`, `pages/SET@VERSION` ([sets of windows and pages](data.md#pages)), "
        "`icons@VERSION`;",
        "- `WORLD/KIND`: samples composed from a world, `nano` or `mini`, without end. The kinds are:",
        *(f"  - `{kind}`: {_summary(made)}" for kind, made in KINDS.items()),
        "",
        "Their `options`:",
        "",
        *table(("source", *OPTIONS), [(source, *option_cells(*key)) for source, key in rows]),
        "",
    ]


def _tasks() -> list[str]:
    owners: dict[Key, list[str]] = {}
    for name, family in TASKS.items():
        for key in task_options(family):
            owners.setdefault(key, []).append(f"`{name}`")
    scores = [
        (f"`{name}`", _summary(kind), f"`{kind.metric}`" if kind.metric else "") for name, kind in TASKS.items()
    ]
    return [
        "### Tasks",
        "",
        "[data.md](data.md#tasks) lists the fields that they read. `keep_best` means this score if it names none.",
        "",
        *table(("task", "what it does", "score"), scores),
        "",
        "Their `task_options`, where nothing is given by the model's dialect:",
        "",
        *table(("task", *OPTIONS), [(", ".join(names), *option_cells(*key)) for key, names in owners.items()]),
        "",
    ]


def _meaning(owner: Any, name: str) -> str:
    """The text about an attribute or argument in the docstring of a function, or of a class and its bases."""
    for each in inspect.getmro(owner) if isinstance(owner, type) else [owner]:
        if said := _described(inspect.getdoc(each) if "__doc__" in vars(each) or each is owner else "").get(name):
            return said
    raise ValueError(f"the docstring of {owner.__name__} does not describe {name!r}")


def _described(docstring: str | None) -> Mapping[str, str]:
    """Name -> description, of the sections "Attributes" and "Args" of a docstring."""
    found: dict[str, str] = {}
    _, _, section = re.sub(r"(?m)^(Attributes|Args):$", "\0", docstring or "").partition("\0")
    section = re.split(r"(?m)^\S", section)[0]  # up to the next section
    for entry in re.split(r"\n {4}(?=\S)", section):
        names, colon, text = entry.strip().partition(": ")
        if colon:
            found |= dict.fromkeys(names.split(", "), _plain(text))
    return found


def _summary(owner: Any) -> str:
    """The first paragraph of a docstring."""
    return _plain((inspect.getdoc(owner) or "").partition("\n\n")[0])


def _plain(text: str) -> str:
    """Markdown on one line."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"``\1``", text)
    return " ".join(text.replace("``", "`").split())


def _type(kind: Any) -> str:
    """A type in the words of TOML."""
    origin, inner = get_origin(kind), get_args(kind)
    names = {bool: "true or false", int: "integer", float: "number", str: "string", Any: "value"}
    if kind in names:
        return names[kind]
    if origin is Annotated:
        return _type(inner[0])
    if origin is Literal:
        return ", ".join(quote(value) for value in inner)
    if origin in (Union, UnionType):
        return " or ".join(_type(each) for each in inner if each is not NoneType)
    if origin in (dict, Mapping):
        return "table" if inner[1] is Any else f"table of {_plural(inner[1])}"
    if origin is tuple and Ellipsis not in inner:
        return f"list of {len(inner)} {_type(inner[0])}s"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "table"
    return f"list of {_plural(inner[0])}"


def _plural(kind: Any) -> str:
    first, space, rest = _type(kind).partition(" ")
    return f"{first}s{space}{rest}"


def _default(value: Any) -> str:
    """A default as TOML; empty if there is none, or if it is a table of its own."""
    if value is dataclasses.MISSING or value is inspect.Parameter.empty:
        return REQUIRED
    return "" if value is None or isinstance(value, BaseModel) else f"`{quote(value)}`"


def _bound(limit: Any) -> str:
    """What a bound of pydantic's demands of a number."""
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    return ", ".join(f"{word} {getattr(limit, name)}" for name, word in words.items() if hasattr(limit, name))


if __name__ == "__main__":
    write_into(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/recipes.md"))
