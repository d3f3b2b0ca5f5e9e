"""Every command of docs/start.md and docs/add-an-ability.md runs, in the order of the page, on tiny models."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from openpali.home import home
from typed_commands import run_typed

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
COMMAND = re.compile(r"^[^\n]*<<'END'\n.*?^END$|^[^\n]+$", re.M | re.S)  # with the lines that it is given, if any
SHORT = ["batch=2", "workers=0", "phases.0.samples=4", "phases.0.size=72", "optimizer.warmup=0"]
SHORT += ["max_prompt=160", "max_target=160", "evals.0.every=4", "evals.0.limit=1"]


def commands(page: str) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", (DOCS / page).read_text("utf-8"), re.S)
    return [command for block in blocks for command in COMMAND.findall(block)]


@pytest.fixture
def clone(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder as a clone, whose ``nano`` is the tiny bundle."""
    for name in ("docs", "examples", "packages", "recipes"):
        (tmp_path / name).symlink_to(ROOT / name)
    for run in ("clock", "mine-classify"):
        shutil.rmtree(home() / "runs" / run, ignore_errors=True)  # of another test
    for drawing in ("curves.draw_curves", "samples.draw_samples"):  # takes most of the time
        monkeypatch.setattr(f"openpali.reports.{drawing}", lambda *anything: None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_all(lines: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What each command prints."""
    printed = []
    for line in lines:
        if line.startswith("openpali "):
            printed.append(run_typed(line, monkeypatch, capsys, {"train": SHORT, "eval": ["--limit", "2"]}))
        else:
            line = re.sub("^python ", f"{shlex.quote(sys.executable)} ", line)
            printed.append(
                subprocess.run(["bash", "-euc", line], check=True, capture_output=True, text=True).stdout
            )
    return printed


def test_ten_minutes(clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Servers and builds are those of other documents; a server of files and ``make playground`` run in no test."""
    elsewhere = {line for page in ("serving.md", "playground.md", "../README.md") for line in commands(page)}
    apart = ("make ", "pip ", "curl ", "openpali serve", "python -m http.server")
    lines = commands("start.md")
    servers = [line for line in lines if line.startswith(apart)]
    assert {*servers} <= elsewhere
    run_all([line for line in lines if line not in servers], monkeypatch, capsys)
    assert len(Path("mine-train.jsonl").read_text().splitlines()) == 10
    assert (home() / "runs" / "mine-classify" / "best").is_dir()


def test_an_ability(clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.replace("clocks 8000", "clocks 40") for line in commands("add-an-ability.md")]
    printed = run_all(lines, monkeypatch, capsys)
    assert len(printed) == 8
    assert (home() / "runs" / "clock" / "best").is_dir()
    samples = [json.loads(line) for line in Path("clocks/mine.jsonl").read_text().splitlines()]
    assert len(samples) == 40
    example = re.search(r"```json\n(.*?)\n```", (DOCS / "add-an-ability.md").read_text("utf-8"), re.S)
    assert example is not None
    assert samples[0] == json.loads(example[1])


def test_the_hands_of_clocks_show_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples")
    from random import Random

    from clocks import clock

    def face(hour: int, minute: int) -> np.ndarray:
        return np.asarray(clock(hour, minute, Random(1)), int)

    def hand(shown: tuple[int, int], opposite: tuple[int, int], third: tuple[int, int]) -> np.ndarray:
        """(y, x) of the pixels that only ``shown`` has."""
        differs = (face(*shown) != face(*opposite)).any(-1) & (face(*opposite) == face(*third)).all(-1)
        return np.argwhere(differs)

    hours, minutes = hand((3, 0), (9, 0), (6, 0)), hand((0, 15), (0, 45), (0, 30))
    for right, left in ((hours, hand((9, 0), (3, 0), (6, 0))), (minutes, hand((0, 45), (0, 15), (0, 30)))):
        down, across = right.mean(0) - left.mean(0)
        assert across > 15
        assert abs(down) < 5
    assert minutes[:, 1].max() > hours[:, 1].max() + 5, "the minute hand is the longer one"
