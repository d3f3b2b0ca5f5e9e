"""docs/cli.md has every command, argument and option of the command line, as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from openpali.cli.main import app
from openpali_lab.documents.cli import commands, render, rows

DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_page_is_current() -> None:
    assert render() == DOCUMENT.read_text("utf-8"), "run: python -m openpali_lab.documents.cli"


def test_every_option_that_a_command_takes_is_on_it() -> None:
    group = typer.main.get_command(app)
    found = {words.removeprefix("openpali "): verb for words, verb in commands()}
    taken = {}
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        taken |= {f"{name} {each}": one for each, one in inner.items()} if inner else {name: command}
    assert found.keys() == taken.keys()
    for words, verb in found.items():
        params = [each for each in taken[words].params if not getattr(each, "hidden", False)]
        listed = {option for row in rows(verb) for option in re.findall(r"--[\w-]+", row.name)}
        assert listed == {o for each in params for o in (*each.opts, *each.secondary_opts) if o.startswith("--")}
        assert [row for row in rows(verb) if not row.meaning] == []


@pytest.mark.parametrize("words", [["predict"], ["data", "build"], ["explain"]])
def test_help_gives_flags_no_type(words: list[str]) -> None:
    printed = CliRunner().invoke(app, [*words, "--help"]).output
    assert "--help" in printed
    assert "bool" not in printed
