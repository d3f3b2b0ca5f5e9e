"""``openpali read`` on images and PDF files, with a finder and a reader that write something everywhere."""

from __future__ import annotations

import csv
import io
import json
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from openpali import Pali
from openpali.cli.main import app
from openpali.eval.cards import hash_model
from openpali.weights.files import WORDS


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page & more.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 200, 3), np.uint8)).save(path)
    return path


def read(bundle: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["read", "--model", str(bundle), *map(str, arguments)])


def words_of(record: dict[str, Any]) -> list[str]:
    return [word["text"] for line in record["lines"] for word in line["words"]]


def test_json_has_boxes_and_confidences(bundle: Path, page: Path) -> None:
    record = json.loads(read(bundle, page, "--format", "json").stdout)
    assert (record["file"], record["page"], record["height"], record["width"]) == (str(page), 1, 90, 200)
    assert len(words_of(record)) > 3
    for line in record["lines"]:
        assert line["text"] == " ".join(word["text"] for word in line["words"])
        for thing in (line, *line["words"]):
            ymin, xmin, ymax, xmax = thing["box"]
            assert ymin < ymax
            assert xmin < xmax
            assert 0 <= thing["confidence"] <= 1


def test_every_format_says_the_same(bundle: Path, page: Path) -> None:
    record = json.loads(read(bundle, page, "--format", "json").stdout)
    blocks = groupby(record["lines"], lambda line: line["block"])
    assert (
        read(bundle, page).stdout
        == "\n\n".join("\n".join(line["text"] for line in lines) for _, lines in blocks) + "\n\f"
    )
    assert [line.text for line in Pali.from_pretrained(bundle).read_page(page)] == record["text"].split("\n")

    tsv = io.StringIO(read(bundle, page, "--format", "tsv").stdout)
    rows = list(csv.DictReader(tsv, delimiter="\t", quoting=csv.QUOTE_NONE))
    blocks_of = [int(row["block_num"]) for row in rows if row["level"] == "4"]
    assert blocks_of == [line["block"] + 1 for line in record["lines"]]
    table = [row for row in rows if row["level"] == "5"]
    assert [row["text"] for row in table] == words_of(record)
    assert all(0 <= float(row["conf"]) <= 100 for row in table)

    whole = ElementTree.fromstring(read(bundle, page, "--format", "hocr").stdout.split("\n", 2)[2])
    spans = [e for e in whole.iter() if e.get("class") == "ocrx_word"]
    assert [span.text for span in spans] == words_of(record)
    [shown] = [e for e in whole.iter() if e.get("class") == "ocr_page"]
    assert f'image "{page}"; bbox 0 0 200 90' in (shown.get("title") or "")


def test_pages_of_a_pdf_are_read_one_by_one(bundle: Path, tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (width, 60), "white") for width in (100, 140))
    first.save(tmp_path / "two.pdf", save_all=True, append_images=[second], resolution=72)
    found = read(bundle, tmp_path / "two.pdf", "--format", "json", "--dpi", 144, "--out", tmp_path / "drawn.png")
    pages = [json.loads(line) for line in found.stdout.splitlines()]
    assert [(p["page"], p["width"], p["height"]) for p in pages] == [(1, 200, 120), (2, 280, 120)]
    assert Image.open(tmp_path / "drawn-2.png").size == (280, 120)


def test_what_cannot_be_read_does_not_stop_the_others(bundle: Path, page: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4\n" + b"x" * 50)
    found = read(bundle, tmp_path / "broken.pdf", tmp_path / "none.png", page)
    assert found.exit_code == 1
    assert isinstance(found.exception, ValueError)
    assert "broken.pdf" in str(found.exception)
    assert "none.png" in str(found.exception)
    assert len(found.stdout) > 10


def test_a_model_without_readers_says_so(readers: Path, page: Path) -> None:
    found = read(readers, page)
    assert found.exit_code == 1
    assert "finder" in str(found.exception)


@pytest.mark.parametrize("name", ["real/screens", "real/documents"])
def test_real_pages_are_evaluated(bundle: Path, tmp_path: Path, name: str) -> None:
    card = tmp_path / "card.json"
    arguments = ["eval", name, "--model", str(bundle), "--limit", "2", "--json", str(card)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    written = json.loads(card.read_text())
    assert (written["benchmark"], written["n"]) == (name, 2)
    assert written["scores"].keys() == {"word_f1", "word_precision", "word_recall"}
    pali = Pali.from_pretrained(bundle)
    assert written["model"]["hash"] == hash_model(pali, WORDS) != hash_model(pali)
    assert set(written["slices"]) == ({"light", "dark"} if name == "real/screens" else set())
