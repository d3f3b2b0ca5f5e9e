"""Sources by name: those that are built, files and folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from openpali.data.sources.registry import open_source
from openpali.home import home


def write(folder: Path, *records: dict) -> Path:
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_sources_open_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path / "home"))
    with pytest.raises(FileNotFoundError, match="openpali data build easy-vqa"):
        open_source("easy-vqa", {"split": "train"})
    built = home() / "data/easy-vqa"
    built.mkdir(parents=True)
    write(built, {"question": "what?", "answers": ["that"]})
    assert open_source("easy-vqa", {})[0].question == "what?"
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    path = write(tmp_path, {"images": "a.png"})
    assert len(open_source(str(path), {})[0].images) == 1
    (tmp_path / "train.csv").write_text("question,answers")
    for name, options, kind, named in (
        ("easy-vqa", {"split": "val"}, ValueError, "'val'"),
        ("easy-vqa", {"slit": "test"}, ValueError, "'slit'"),
        (str(path), {"split": "train"}, ValueError, "no option 'split'"),
        ("easyvqa", {}, ValueError, "'easyvqa'"),
        (str(tmp_path / "train.csv"), {}, ValueError, "must end in .jsonl or "),
        (str(tmp_path / "other.jsonl"), {}, FileNotFoundError, "other.jsonl"),
        (str(tmp_path), {}, FileNotFoundError, "no .parquet or .tar files in the folder .*; name a .jsonl file"),
    ):
        with pytest.raises(kind, match=named):
            open_source(name, options)
