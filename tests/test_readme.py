"""Every command in the README runs, on tiny models, built data and shortened training."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from PIL import Image

from openpali.cli.main import main
from openpali.data.sources.registry import open_source
from openpali_lab.worlds.builders.base import datasets

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"```(bash|python)\n(.*?)```", re.S)
BLOCKS = BLOCK.findall((ROOT / "README.md").read_text("utf-8"))
COMMANDS = dict.fromkeys(  # each once
    line
    for language, block in BLOCKS
    if language == "bash"
    for line in block.splitlines()
    if line.startswith("openpali ")
)
PYTHON = [block for language, block in BLOCKS if language == "python"]
SHORT = ["scale=0.0001", "batch=4", "micro=1", "model.preset=pico", "workers=0"]
SHORT += ["phases.0.samples=4", "optimizer.warmup=0", "optimizer.cooldown=0"]


@pytest.fixture
def bench(shipped: Path, world_with_vocabulary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the files that the README names; the tiny bundle is shipped as ``nano``."""
    for name in datasets():
        (world_with_vocabulary / "data" / name).mkdir(exist_ok=True)
    Image.fromarray(open_source("nano/scene", {"split": "heldout"})[0].images[0]).save(tmp_path / "photo.png")
    for name in ("docs/page.png", "packages/openpali/src/openpali/demo/screen.webp"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.open(tmp_path / "photo.png").save(tmp_path / name)
    source, lines = open_source("nano/single", {"split": "heldout"}), []
    for index in range(40):
        Image.fromarray(source[index].images[0]).save(tmp_path / f"{index}.png")
        lines.append(json.dumps({"images": [f"{index}.png"], "question": "what is this?", "answers": ["a horse"]}))
    (tmp_path / "mine.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_uses_are_documented() -> None:
    titles = re.findall(r"^## (.*)", (ROOT / "README.md").read_text("utf-8"), re.M)
    assert {"Ask", "Fine-tune on your data", "Pretrain", "Evaluate"} <= set(titles)
    assert len(COMMANDS) >= 10
    assert PYTHON


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(
    command: str, bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    arguments = shlex.split(command)
    if arguments[1] in ("train", "tune"):
        arguments += [*SHORT, f"name=readme/{arguments[1]}/{Path(arguments[2]).stem}"]
    if arguments[1:3] == ["eval", "nano/caption"]:
        arguments[arguments.index("--limit") + 1] = "4"
    if "--suite" in arguments:
        arguments += ["--limit", "4"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code, end.value.code
    assert capsys.readouterr().out


@pytest.mark.parametrize("block", PYTHON)
def test_python_runs(block: str, bench: Path) -> None:
    exec(compile(block, "README.md", "exec"), {})


def test_the_page_of_the_package_has_lines_of_the_readme_and_no_relative_link() -> None:
    """Package indexes show it, where a link to another file of the repository leads nowhere."""
    package = (ROOT / "packages" / "openpali" / "README.md").read_text("utf-8")
    tested = {line for _, block in BLOCKS for line in block.splitlines()} | {"openpali demo"}  # in test_cli.py
    assert {line for _, block in BLOCK.findall(package) for line in block.splitlines()} <= tested
    assert all(link.startswith("https://") for link in re.findall(r"\]\(([^)]*)\)", package))
