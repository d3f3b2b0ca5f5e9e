"""docs/recipes.md lists every key of a recipe, and every option, as the types have them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Lt

from openpali.tasks.registry import TASKS
from openpali.train.load import keys_by_objective
from openpali.train.recipe import Recipe
from openpali_lab.documents.recipe_page import _meaning, _type, recipe_keys, render, task_options, write_into

DOCUMENT = Path(__file__).parents[2] / "docs" / "recipes.md"


def test_the_page_is_current(tmp_path: Path) -> None:
    copy = tmp_path / "recipes.md"
    shutil.copy(DOCUMENT, copy)
    write_into(copy)
    assert copy.read_text("utf-8") == DOCUMENT.read_text("utf-8"), (
        "run: python -m openpali_lab.documents.recipe_page"
    )


def test_every_key_that_a_recipe_takes_is_on_it() -> None:
    sections = dict(re.findall(r"(?ms)^### (.*?)$(.*?)(?=^### |\Z)", render()))
    rows = {title: re.findall(r"(?m)^\| `([\w.]+)` \|", text) for title, text in sections.items()}
    tables = {"model": "model", "model.lora": "model.lora", "optimizer": "optimizer", "parallel": "parallel"}
    tables |= {"phases.0": "[phases]", "phases.0.mixture.0": "[phases.mixture]", "evals.0": "[evals]"}
    listed = {f"{key}.{name}" for key, title in tables.items() for name in rows[f"`[{title}]`"]}
    listed |= {*rows["Every recipe"]}
    for objective, keys in keys_by_objective().items():
        assert {*keys} <= listed | {*rows[f'`objective = "{objective}"`']}
        assert {*rows[f'`objective = "{objective}"`']} <= {*keys}


def test_types_and_bounds_are_told_as_toml_has_them() -> None:
    told = {key.name: key for key in recipe_keys(Recipe)}
    assert told["`ema`"][1:3] == ("number, at least 0, below 1", "`0.0`")
    assert (told["`name`"].type, told["`batch`"].default) == ("string", "required")
    assert [key.name for key in task_options(TASKS["denoise"])] == []  # the tokenizer and the limits are the run's
    assert _type(list[Annotated[float, Ge(0), Lt(1)]] | None) == "list of numbers"
    assert _type(dict[str, Any]) == "table"
    assert _type(Literal["a", "b"]) == '"a", "b"'


def test_a_key_without_a_meaning_is_an_error() -> None:
    class Odd(Recipe):
        """Odd.

        Attributes:
            first: one
                and more.
            second, third: see :class:`~a.b.C` and ``d``.

        Raises:
            fourth: no attribute.
        """

    assert _meaning(Odd, "first") == "one and more."
    assert _meaning(Odd, "third") == "see `C` and `d`."
    assert _meaning(Odd, "seed") == _meaning(Recipe, "seed")  # inherited
    with pytest.raises(ValueError):
        _meaning(Odd, "fourth")
