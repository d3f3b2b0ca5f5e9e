"""Run the commands of documents and notebooks as typed, in this process."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from openpali.cli.main import app as openpali
from openpali.cli.main import main
from openpali_lab.__main__ import app as lab


def run_typed(
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: Mapping[str, Sequence[str]] | None = None,
    change: Callable[[list[str]], None] = lambda arguments: None,
) -> str:
    """Run a command of ``openpali`` or ``python -m openpali_lab``; return what it prints, which ``> FILE`` writes.

    Args:
        more: verb -> arguments that are added to it.
        change: changes the arguments in place.
    """
    command, _, redirected = line.partition(" > ")
    arguments = shlex.split(command)
    app = openpali
    if arguments[:3] == ["python", "-m", "openpali_lab"]:
        app, arguments = lab, arguments[2:]
    arguments += (more or {}).get(arguments[1], [])
    change(arguments)
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as end:
        main(app)
    assert not end.value.code, (line, end.value.code)
    printed = capsys.readouterr().out
    assert printed, line
    if redirected:
        Path(redirected).write_text(printed, "utf-8")
    return printed
