"""What is wrong with a recipe: one sentence for each mistake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ValidationError

from openpali.messages import nearest
from openpali.mistakes import Place, Terms, mistakes
from openpali.train.recipe_file import quote

Keys = Mapping[str, Sequence[str]]  # objective -> the keys of its recipes, dotted; indices of lists are 0

FILE_KEYS = ["extends", "entries", "mixtures"]  # valid in a file; reading it resolves them
TOML = Terms("the file", "key", "a table", quote)


def explain_table(error: ValidationError, model: type[BaseModel]) -> str:
    """Every mistake in the values of a TOML file, as a sentence."""
    return "; ".join(each.sentence for each in mistakes(error, model, TOML))


def explain_recipe(error: ValidationError, model: type[BaseModel], objective: str, keys: Keys) -> str:
    """Every mistake in a recipe of this objective, as a sentence."""
    found = mistakes(error, model, TOML, lambda way: _unknown_key(way, objective, keys))
    return "; ".join(each.sentence for each in found)


def _unknown_key(location: Place, objective: str, keys: Keys) -> str:
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
