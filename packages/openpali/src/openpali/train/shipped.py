"""The recipes that come with the package, by name: ``detect`` is for one's own data, ``nano/3_video`` a stage,
others are published transfers."""

from __future__ import annotations

import tomllib

from openpali.messages import hint
from openpali.train.load import load_recipe
from openpali.train.recipe_file import as_toml, describe_recipe, shipped_recipes


def recipe_text(name: str) -> str:
    """A shipped recipe as a file that stands alone: as it is written, or resolved if it extends another."""
    known = shipped_recipes()
    if name not in known:
        raise ValueError(f"no recipe {name!r}; {hint(name, known)}")
    text = known[name].read_text("utf-8")
    if "extends" not in tomllib.loads(text):
        return text
    return f"# {describe_recipe(known[name])}.\n{as_toml(load_recipe(known[name]).model_dump(exclude_unset=True))}"
