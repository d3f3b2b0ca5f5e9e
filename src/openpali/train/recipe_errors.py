"""What is wrong with a recipe: one sentence for each mistake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from openpali.messages import nearest
from openpali.train.recipe_file import quote

Keys = Mapping[str, Sequence[str]]  # objective -> the keys of its recipes, dotted; indices of lists are 0

LONGEST = 60  # characters of a value that a message repeats
FILE_KEYS = ["extends", "entries", "mixtures"]  # valid in a file; reading it resolves them


def explain_error(error: Any, objective: str, keys: Keys) -> str:
    """One sentence for an element of pydantic's ``ValidationError.errors()``, for a recipe of this objective."""
    location, kind, context = error["loc"], error["type"], error.get("ctx", {})
    where, value = ".".join(map(str, location)), quote(error["input"])
    named = f"{where} = {value}" if len(value) <= LONGEST else where
    match kind:
        case "value_error":  # of our own validators, which name their keys
            return str(context["error"])
        case "extra_forbidden":
            return _unknown_key(location, objective, keys)
        case "missing":
            return f"{where} is missing"
        case "literal_error":
            return f"{named}: choose one of {context['expected']}"
        case "greater_than":
            return f"{named} must be greater than {context['gt']:g}"
        case "greater_than_equal":
            return f"{named} must be at least {context['ge']:g}"
        case "less_than":
            return f"{named} must be less than {context['lt']:g}"
        case "finite_number":
            return f"{named} must be finite"
        case "too_short":
            return f"{where} needs at least {context['min_length']} element"
        case "too_long":
            return f"{where} takes at most {context['max_length']} elements"
    return f"{named} must be {_TYPES[kind]}" if kind in _TYPES else f"{named}: {error['msg']}"


_TYPES = {
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a string",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
}


def _unknown_key(location: tuple[str | int, ...], objective: str, keys: Keys) -> str:
    where, key = ".".join(map(str, location)), str(location[-1])
    generic = ".".join("0" if isinstance(part, int) else part for part in location)
    if owners := [f'"{name}"' for name, known in keys.items() if generic in known]:
        return f"{where} is for objective = {' or '.join(owners)}; this recipe is {objective}"
    parent, here = generic.removesuffix(key), where.removesuffix(key)
    known = sorted([*keys[objective], *FILE_KEYS], key=len, reverse=True)
    anywhere = {name.rpartition(".")[2]: name for name in known}  # of several the shortest
    siblings = [name.removeprefix(parent) for name in known if name.startswith(parent)]
    beside = {name: here + name for name in siblings}
    for names, cutoff in ((anywhere, 1.0), (beside, 0.6), (anywhere, 0.75)):
        if near := nearest(key, names, cutoff=cutoff):
            return f"unknown key {where} (nearest: {names[near]})"
    own = sorted(name for name in siblings if "." not in name)
    return f"unknown key {where}" + (f"; {here.rstrip('.') or 'a recipe'} has {', '.join(own)}" if own else "")
