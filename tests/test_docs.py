"""The documents say what is there."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = re.findall(r"\| `([\w.]+):(\w+)` \|", (ROOT / "docs" / "paper-to-code.md").read_text("utf-8"))


def test_the_table_is_read() -> None:
    assert len(ROWS) > 30


@pytest.mark.parametrize(("module", "name"), ROWS)
def test_names_of_the_paper_to_code_table_exist(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)
