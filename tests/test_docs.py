"""The documents name modules and recipes that exist."""

import importlib
import re
from pathlib import Path

import pytest

from openpali.train.load import load_recipe

ROOT = Path(__file__).parents[1]
TABLE = (ROOT / "docs" / "paper-to-code.md").read_text("utf-8")
HOUSE = (ROOT / "docs" / "house.md").read_text("utf-8")
NAMED = r"\| `([\w.]+):(\w+)` \|"
ROWS = re.findall(NAMED, TABLE)
RECIPES = re.findall(r"\| `(recipes/[\w/]+\.toml)` \|", TABLE)


def test_every_row_of_the_table_is_parsed() -> None:
    assert len(ROWS) > 30
    lines = [line for line in TABLE.splitlines() if line.startswith("| ")]
    assert len(ROWS) + len(RECIPES) == len(lines) - 1  # the header names nothing


def test_every_step_through_the_house_names_its_owner() -> None:
    steps = [line for line in HOUSE.splitlines() if line.startswith("| ") and not line.startswith("| Step")]
    assert len(steps) == len(re.findall(NAMED, HOUSE)) > 40


@pytest.mark.parametrize(("module", "name"), [*ROWS, *re.findall(NAMED, HOUSE)])
def test_names_in_the_tables_exist(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("path", RECIPES)
def test_recipes_in_the_paper_to_code_table_load(path: str) -> None:
    assert load_recipe(ROOT / path).phases
