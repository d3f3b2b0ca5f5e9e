"""The commands and recipe keys in docs/training.md are valid."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from tiny_runs import make_recipe
from torch.distributed.run import parse_args

from openpali.train.load import parse_recipe

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "training.md").read_text("utf-8")
LAUNCHES = re.findall(r"`torchrun ([^`]* openpali train [^`]*)`", TEXT)
TABLES = re.findall(r"```toml\n(.*?)```", TEXT, re.S)


@pytest.mark.parametrize("line", LAUNCHES)
def test_torchrun_passes_our_arguments_on(line: str) -> None:
    ours = line.partition(" openpali ")[2]
    parsed = parse_args(shlex.split(line))
    assert (parsed.module, parsed.training_script) == (True, "openpali")
    assert parsed.training_script_args == shlex.split(ours)


@pytest.mark.parametrize("table", TABLES)
def test_recipes_accept_the_keys(table: str) -> None:
    raw = make_recipe("sequence", phases__0__samples=6_400_000).model_dump()
    parse_recipe({**raw, **tomllib.loads(table)})


def test_commands_and_keys_were_found() -> None:
    assert (len(LAUNCHES), len(TABLES)) == (2, 3)
