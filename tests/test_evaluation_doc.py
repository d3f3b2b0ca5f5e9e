"""Every command of docs/evaluation.md runs, in the order of the page, on tiny models and a few samples."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))

from official_layouts import ANSWERING

from openpali.home import home
from openpali_lab.worlds.builders.base import datasets
from openpali_lab.worlds.builders.output import png_bytes, write_shards
from typed_commands import run_typed

TEXT = (Path(__file__).parents[1] / "docs" / "evaluation.md").read_text("utf-8")
COMMANDS = [
    line.partition(" #")[0].replace("torchrun --nproc-per-node 4 -m ", "")  # as one process
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.S)
    for line in block.splitlines()
]


@pytest.fixture
def bench(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the files that the page names; the tiny bundle is shipped as ``nano``."""
    for name in datasets():
        (home() / "data" / name).mkdir(exist_ok=True)
    for name in ("docvqa", "screenspot"):
        ANSWERING[name](tmp_path / "DATA")
    image, record = Image.fromarray(np.zeros((8, 8, 3), np.uint8)), {"question": "what?", "answers": ["a horse"]}
    image.save(tmp_path / "photo.png")
    (tmp_path / "mine-test.jsonl").write_text(json.dumps({"images": ["photo.png"], **record}) + "\n")
    write_shards(tmp_path, "test", [("0", {"png": png_bytes(image), "json": json.dumps(record).encode()})])
    (tmp_path / "MODEL").symlink_to(shipped / "nano")
    run = tmp_path / "mine-vqa"
    run.mkdir()
    (run / "best").symlink_to(home() / "runs" / "t" / "pali")
    reader = tmp_path / "bin" / "tesseract"
    reader.parent.mkdir()
    reader.write_text("#!/bin/sh\necho tesseract 5\n")
    reader.chmod(0o755)
    monkeypatch.setenv("PATH", f"{reader.parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_commands_run(bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    for line in COMMANDS:
        if diff := line.startswith("openpali eval diff "):
            shutil.copy("a.json", "b.json")
        run_typed(line, monkeypatch, capsys, {} if diff else {"eval": ["--limit", "1"]})  # the last limit counts
    written = {"card.json", "answers.jsonl", "page.html", "a.json", "a.jsonl", "a.html", "docvqa.jsonl"}
    assert written <= {path.name for path in bench.iterdir()}
    assert (bench / "results" / "docvqa.json").is_file()
    assert (bench / "results" / "nano" / "nano-vqa.json").is_file()
