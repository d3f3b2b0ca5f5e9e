"""Recipe files as plain tables: `extends`, entries and mixtures by name, overrides, and TOML output.

Nothing here knows the keys of a recipe; `train/recipe.py` checks them.
"""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from openpali.messages import nearest
from openpali.weights.find import RECIPES

Table = dict[str, Any]

STUDY = "arms"  # the key that tells a study from a recipe
OWN_DATA = "transfer"  # the folder that is left out of names
OTHERS = frozenset({"study", "base"})  # folders of studies, and of recipes that others extend


def read_table(path: Path, kind: str = "recipe") -> Table:
    """Read a TOML file and the files that it extends, as one table.

    ``extends = "base.toml"`` names another file, relative to this one. Tables are merged key by key; values and
    lists of this file replace those of the other one.

    Args:
        path: the file.
        kind: what it is, for messages.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no {kind} {path}; {_instead_of(path, kind)}")
    return _read(path, [])


def shipped_recipes() -> Mapping[str, Path]:
    """The recipes that come with the package: name -> file, those for your own data first."""
    files = sorted(RECIPES.rglob("*.toml"), key=lambda path: (path.parent.name != OWN_DATA, path))
    recipes = [path for path in files if path.stem != "bundle" and not OTHERS & {*path.relative_to(RECIPES).parts}]
    names = (path.relative_to(RECIPES).with_suffix("").as_posix() for path in recipes)
    return {name.removeprefix(f"{OWN_DATA}/"): path for name, path in zip(names, recipes, strict=True)}


def describe_recipe(path: Path) -> str:
    """The first sentence of the comment that a recipe begins with."""
    lines = []
    for line in path.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return " ".join(lines).partition(". ")[0].removesuffix(".")


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Table:
    """``base`` with ``changes``: tables are merged key by key, everything else is replaced."""
    merged = dict(base)
    for key, value in changes.items():
        known = merged.get(key)
        merged[key] = merge(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged


def expand_mixtures(raw: Table, entries: Mapping[str, Table], mixtures: Mapping[str, Mapping[str, float]]) -> None:
    """Write out, in place, every ``mixture`` of ``raw["phases"]`` that is given by name.

    A mixture is a list of tables, which stays as it is; a table ``{ENTRY = weight, ...}`` of ``entries`` by name;
    or the name of such a table in ``mixtures``.
    """
    phases = raw.get("phases")
    for number, phase in enumerate(phases if isinstance(phases, list) else []):
        if not isinstance(phase, dict):
            continue
        where, mixture = f"phases.{number}.mixture", phase.get("mixture")
        if isinstance(mixture, str):
            if mixture not in mixtures:
                raise ValueError(f"{where}: there is no table mixtures.{mixture}{_nearest(mixture, mixtures)}")
            mixture = mixtures[mixture]
        if isinstance(mixture, dict):
            for name in mixture:
                if name not in entries:
                    raise ValueError(f"{where}: there is no table entries.{name}{_nearest(name, entries)}")
            phase["mixture"] = [{**copy.deepcopy(entries[k]), "weight": weight} for k, weight in mixture.items()]


def read_overrides(overrides: Sequence[str]) -> list[tuple[str, Any]]:
    """``key=value`` as pairs. The value is TOML, or else a string without quotes."""
    pairs = []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ValueError(f"{override!r} is not an override: write key=value")
        pairs.append((key, _toml_value(text)))
    return pairs


def assign(raw: Table, key: str, value: Any) -> None:
    """Set a dotted key, in place; numbers index lists, as in ``phases.0.samples``. Missing tables are made."""
    *parents, last = key.split(".")
    node: Any = raw
    for depth, part in enumerate([*parents, last]):
        place: Any = part
        if isinstance(node, list):
            if not part.isdecimal() or int(part) >= len(node):
                raise ValueError(f"override {key}: {part!r} is not an index of a list of length {len(node)}")
            place = int(part)
        elif not isinstance(node, dict):
            raise ValueError(f"override {key}: {'.'.join(parents[:depth])} is a value, not a table")
        if depth == len(parents):
            node[place] = value
        else:
            node = node[place] if isinstance(node, list) else node.setdefault(place, {})


def as_toml(table: Mapping[str, Any]) -> str:
    """A table as TOML that reads back as the same, without empty strings and lists, and without empty tables except
    in a table of tables.

    A table within another is written on one line, unless it contains tables.
    """
    return "\n".join(_lines(table, "")).strip() + "\n"


def quote(value: Any) -> str:
    """A value as TOML writes it, on one line."""
    match value:
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case bool():
            return str(value).lower()
        case int():
            return f"{value:_}" if abs(value) >= 10_000 else str(value)
        case list() | tuple():
            return f"[{', '.join(map(quote, value))}]"
        case dict():
            return f"{{ {', '.join(f'{_key(k)} = {quote(v)}' for k, v in value.items())} }}" if value else "{}"
        case _:
            return str(value)


def _read(path: Path, above: list[Path]) -> Table:
    if not path.is_file():
        raise FileNotFoundError(f"{above[-1]} extends {path}, which does not exist")
    chain = [*above, path]
    if any(path.samefile(other) for other in above):
        raise ValueError(f"recipes extend each other in a circle: {' -> '.join(map(str, chain))}")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # the last where lists are nested a thousand times
        raise ValueError(f"{path} is not TOML: {error}") from error
    base = raw.pop("extends", None)
    if base is None:
        return raw
    if not isinstance(base, str):
        raise ValueError(f"{path}: extends = {quote(base)}: give the path of one recipe file")
    return merge(_read(path.parent / base, chain), raw)


def _instead_of(path: Path, kind: str) -> str:
    """What may have been meant by a file that does not exist."""
    name = path.as_posix().removesuffix(".toml")
    own = Path(name).name
    beside = {file.stem: str(file) for file in sorted(path.parent.glob("*.toml"))}
    if kind == "recipe" and name in shipped_recipes() and own not in beside:
        return f"`openpali explain --source {name} > {own}.toml` writes it"
    if near := nearest(own, beside):
        return f"did you mean {beside[near]}?"
    if beside:
        return f"beside it: {', '.join(beside.values())}"
    if kind == "recipe":
        return "openpali explain names those of the package"
    return f"those of the package are in {RECIPES / 'study'}"


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a string that the shell has taken the quotes from


def _nearest(name: str, names: Iterable[str]) -> str:
    near = nearest(name, names, cutoff=0.4)
    return f" (nearest: {near})" if near else ""


def _lines(table: Mapping[str, Any], name: str) -> Iterator[str]:
    by_name = bool(name) and all(isinstance(value, dict) for value in table.values())  # an empty one is an entry
    filled = {key: value for key, value in table.items() if by_name or value not in ("", [], {})}
    tables = {key: value for key, value in filled.items() if _has_header(value, nested=bool(name))}
    for key, value in filled.items():
        if key not in tables:
            yield f"{_key(key)} = {quote(value)}"
    for key, value in tables.items():
        full = f"{name}.{_key(key)}" if name else _key(key)
        for part in value if isinstance(value, list) else [value]:
            yield ""
            yield f"[[{full}]]" if isinstance(value, list) else f"[{full}]"
            yield from _lines(part, full)


def _has_header(value: Any, *, nested: bool) -> bool:
    if isinstance(value, dict):
        return not nested or any(isinstance(part, dict) for part in value.values())
    return isinstance(value, list) and all(isinstance(part, dict) for part in value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else quote(key)
