"""docs/pretrain.md goes the whole way, with a tiny preset and a few drawn samples."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from openpali.home import home
from openpali.infer.generate import Generation
from openpali.infer.pali import Pali
from typed_commands import run_typed

TEXT = (Path(__file__).parents[1] / "docs" / "pretrain.md").read_text("utf-8")
RECIPES = ("siglip.toml", "text.toml", "multimodal.toml", "resolution.toml", "bundle.toml")
SHORT = [
    "model.preset=pico",
    "batch=4",
    "workers=0",
    "phases.0.samples=8",
    "optimizer.warmup=0",
    "optimizer.cooldown=4",
]
EVALS = ["evals.0.every=8", "evals.0.limit=1"]
SIZES = {"resolution.toml": 144}  # pixels; others 72


def write(file: str, lines: Sequence[Mapping[str, Any]]) -> None:
    Path(file).write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def lay_out(folder: Path) -> None:
    """The files that the document names."""
    (folder / "images").mkdir()
    images = [{"images": f"images/{i}.png"} for i in range(40)]
    for i, image in enumerate(images):
        Image.new("RGB", (80, 80), (6 * i, 255 - 6 * i, 90)).save(folder / image["images"])
    box = {"name": "disc", "box": [10, 10, 40, 40]}
    write("pairs.jsonl", [{**image, "captions": {"en": f"colour number {i}"}} for i, image in enumerate(images)])
    write("texts.jsonl", [{"text": f"This is sentence {i} of the many that there are."} for i in range(40)])
    write("questions.jsonl", [{**image, "question": "which?", "answers": str(i)} for i, image in enumerate(images)])
    write("words.jsonl", [{**image, "text": f"word {i}"} for i, image in enumerate(images)])
    write("boxes.jsonl", [{**image, "objects": [box]} for image in images])


def test_it_goes_the_whole_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    for drawing in ("curves.draw_curves", "samples.draw_samples"):  # takes most of the time
        monkeypatch.setattr(f"openpali.reports.{drawing}", lambda *anything: None)
    monkeypatch.setattr(Generation, "complete", True)  # the tiny model never ends its answers
    [vocabulary] = re.findall("```python\n(.*?)```", TEXT, re.S)
    exec(vocabulary.replace("32_000", "800"), {})
    for name, recipe in zip(RECIPES, re.findall("```toml\n(.*?)```", TEXT, re.S), strict=True):
        Path(name).write_text(recipe, "utf-8")

    def shorten(arguments: list[str]) -> None:
        if arguments[1] not in ("train", "explain"):
            return
        recipe = arguments[2]
        evaluated = recipe in ("multimodal.toml", "resolution.toml")
        arguments[3:3] = [*SHORT, f"phases.0.size={SIZES.get(recipe, 72)}", *(EVALS if evaluated else [])]

    lines = [line for block in re.findall(r"```bash\n(.*?)```", TEXT, re.S) for line in block.splitlines()]
    for line in lines:
        line = re.sub(r"torchrun \S+ 8 -m ", "", line)
        if not line.startswith("openpali serve"):
            run_typed(line, monkeypatch, capsys, change=shorten)
    assert {*Pali(Path("models/mine")).parts} == {"pali", "siglip"}
    assert (home() / "runs/mine/3_resolution/model").is_dir()
