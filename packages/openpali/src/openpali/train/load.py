"""Recipes from files, with overrides, and from the records of runs."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from openpali.messages import hint, nearest
from openpali.mistakes import Place, Terms, mistakes
from openpali.train.check import problems
from openpali.train.objectives.registry import objectives
from openpali.train.recipe import Named, Recipe
from openpali.train.recipe_file import (
    STUDY,
    as_toml,
    assign,
    describe_recipe,
    expand_mixtures,
    quote,
    read_overrides,
    read_table,
    shipped_recipes,
)

FILE_KEYS = ["extends", "entries", "mixtures"]  # valid in a file; reading it resolves them
_BY_NAME = ("entries.", "mixtures.")
_TOML = Terms("the file", "key", "a table", quote)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe; ``overrides`` are ``key=value`` with dotted keys and TOML values.

    Three keys belong to the file and are resolved here: ``extends`` (:func:`read_table`), ``entries`` and
    ``mixtures`` (:func:`expand_mixtures`). Overrides apply to the resolved recipe; those of entries and mixtures
    apply before. ``phases.0.samples=640`` reaches into lists. ``scale=0.01`` is not a key but a tool for dry runs:
    it shortens every phase, the warmup and the cooldown by that factor.

    Raises:
        FileNotFoundError: the file, or one that it extends, does not exist.
        ValueError: a file is not TOML, or has an unknown key or a wrong value; every problem is named.
    """
    path = Path(path)
    raw = read_table(path)
    if STUDY in raw:
        raise ValueError(f"{path} is a study: use openpali study")
    try:
        changes = read_overrides(overrides)
        for key, value in changes:
            if key.startswith(_BY_NAME):
                assign(raw, key, value)
            elif key in FILE_KEYS:
                raise ValueError(
                    f"override {key}: only a file has it; override single keys, such as entries.NAME.task"
                )
        entries, mixtures = _named(raw)
        expand_mixtures(raw, entries, mixtures)
        scale = 1.0
        for key, value in changes:
            if key == "scale":
                scale = _scale(value)
            elif not key.startswith(_BY_NAME):
                assign(raw, key, value)
        expand_mixtures(raw, entries, mixtures)  # an override may name another mixture
        return _scaled(parse_recipe(raw), scale)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def recipe_text(name: str) -> str:
    """A shipped recipe as a file that stands alone: as it is written, or resolved if it extends another."""
    known = shipped_recipes()
    if name not in known:
        raise ValueError(f"no recipe {name!r}; {hint(name, known)}")
    text = known[name].read_text("utf-8")
    if "extends" not in tomllib.loads(text):
        return text
    return f"# {describe_recipe(known[name])}.\n{as_toml(load_recipe(known[name]).model_dump(exclude_unset=True))}"


def parse_recipe(raw: Mapping[str, Any]) -> Recipe:
    """A recipe from its keys, with mixtures written out."""
    kind = _recipe_class(raw)
    try:
        recipe = kind.model_validate(raw)
    except ValidationError as error:
        found = mistakes(error, kind, _TOML, lambda way: _unknown_key(way, str(raw["objective"])))
        raise ValueError("; ".join(each.sentence for each in found)) from error
    if wrong := [*problems(recipe)]:
        raise ValueError("; ".join(wrong))
    return recipe


def _recipe_class(raw: Mapping[str, Any]) -> type[Recipe]:
    known, name = objectives(), raw.get("objective")
    if not isinstance(name, str) or name not in known:
        wrong = f"objective = {quote(name)}" if "objective" in raw else "objective is missing"
        raise ValueError(f"{wrong}: choose one of {', '.join(map(repr, known))}")
    return known[name].recipe_class


def explain_table(error: ValidationError, model: type[BaseModel]) -> str:
    """Every mistake in the values of a TOML file, as a sentence."""
    return "; ".join(each.sentence for each in mistakes(error, model, _TOML))


def read_record(text: str) -> Recipe:
    """The recipe of a run, from its ``recipe.json``.

    Raises:
        ValueError: it is not JSON, or not a recipe of this version.
    """
    return parse_recipe(json.loads(text))


def _named(raw: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take the entries and the mixtures out of a file's table, and check them."""
    named = {key: raw.pop(key, {}) for key in Named.model_fields}
    try:
        Named.model_validate(named)
    except ValidationError as error:
        raise ValueError(explain_table(error, Named)) from error
    return named["entries"], named["mixtures"]


def _scale(value: Any) -> float:
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"scale = {value}: give a positive number")
    return float(value)


def _scaled(recipe: Recipe, scale: float) -> Recipe:
    if scale == 1.0:
        return recipe
    batch = recipe.batch

    def shorter(samples: int) -> int:
        return max(1, round(samples * scale / batch)) * batch

    raw = recipe.model_dump(exclude_unset=True)  # what is not named may be inherited
    for phase in raw["phases"]:
        phase["samples"] = shorter(phase["samples"])
    tables = {"optimizer": raw["optimizer"]} | {f"phases.{n}": phase for n, phase in enumerate(raw["phases"])}
    for schedule in recipe.schedules:
        table, samples = tables[schedule.where], sum(raw["phases"][n]["samples"] for n in schedule.phases)
        table["warmup"] = min(samples, math.ceil(schedule.spec.warmup * scale))
        table["cooldown"] = min(samples - table["warmup"], math.ceil(schedule.spec.cooldown * scale))
    raw["keep_every"] = math.ceil(recipe.keep_every * scale)
    for evaluation in raw.get("evals", ()):
        evaluation["every"] = math.ceil(evaluation["every"] * scale)
    return parse_recipe(raw)


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted keys of a model and of the models within it; those in lists have the index 0."""
    for name, field in model.model_fields.items():
        yield prefix + name
        inner, index = field.annotation, ""
        if get_origin(inner) is list:
            inner, index = get_args(inner)[0], "0."
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _keys(inner, f"{prefix}{name}.{index}")


def keys_by_objective() -> dict[str, list[str]]:
    """Objective -> the dotted keys of its recipes; those in lists have the index 0."""
    return {name: [*_keys(kind.recipe_class)] for name, kind in objectives().items()}


def _unknown_key(location: Place, objective: str) -> str:
    """A sentence about a key that a recipe of this objective does not have: who has it, or which are near."""
    keys = keys_by_objective()
    where, key = ".".join(map(str, location)), str(location[-1])
    generic = ".".join("0" if isinstance(part, int) else part for part in location)
    if owners := [f'"{name}"' for name, known in keys.items() if generic in known]:
        return f"{where} is for objective = {' or '.join(owners)}; this recipe is {objective}"
    parent, here = generic.removesuffix(key), where.removesuffix(key)
    known = sorted([*keys[objective], *FILE_KEYS], key=lambda name: (name.count("."), len(name)), reverse=True)
    anywhere = {name.rpartition(".")[2]: name for name in known}  # of several the outermost
    siblings = [name.removeprefix(parent) for name in known if name.startswith(parent)]
    beside = {name: here + name for name in siblings}
    for names, cutoff in ((anywhere, 1.0), (beside, 0.6), (anywhere, 0.75)):
        if near := nearest(key, names, cutoff=cutoff):
            return f"unknown key {where} (nearest: {names[near]})"
    own = sorted(name for name in siblings if "." not in name)
    return f"unknown key {where}" + (f"; {here.rstrip('.') or 'a recipe'} has {', '.join(own)}" if own else "")
