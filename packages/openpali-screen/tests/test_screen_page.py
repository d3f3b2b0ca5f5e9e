"""What docs/screen.md shows and promises."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

from openpali_screen.cli import main

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "screen.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)


def test_its_commands_run_and_print_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "packages/openpali/src/openpali/demo/screen.webp", "screen.png")
    Image.new("RGB", (200, 100), "white").save("scan.pdf", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    [commands], [shown], [python] = blocks("bash"), blocks("text"), blocks("python")
    install, *lines = commands.splitlines()
    assert install.startswith("pip install openpali-screen")
    printed = []
    for line in lines:
        main(shlex.split(line.partition(" > ")[0])[1:])
        printed.append(capsys.readouterr().out)
    assert len(printed) == 4
    assert {*shown.splitlines()} <= {*printed[0].splitlines()}
    assert Image.open("marks.png").size == Image.open("screen.png").size
    exec(compile(python, "docs/screen.md", "exec"), {})
    assert "button Docs" in capsys.readouterr().out
