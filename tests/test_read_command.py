"""``openpali read`` on images and PDF files, with a finder and a reader that write something everywhere."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pypdfium2
import pytest
from PIL import ExifTags, Image
from typer.testing import CliRunner, Result

from openpali import Pali
from openpali.cli.main import app
from openpali.eval.provenance import hash_model
from openpali.tasks.example import Box, Size
from openpali.weights.find import find_model
from openpali_screen import ScreenReader, runtime
from openpali_screen.bundles import reader_of_bundle
from openpali_screen.export import LEGEND, HocrFormat, TextFormat, TsvFormat, draw_page, page_json
from openpali_screen.files import pages_of
from openpali_screen.parts import WORDS
from openpali_screen.text import ReadLine, ReadPage, ReadWord
from typed_commands import run_typed


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page & more.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 200, 3), np.uint8)).save(path)
    return path


def read(bundle: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["read", "--model", str(bundle), *map(str, arguments)])


def words_of(record: dict[str, Any]) -> list[str]:
    return [word["text"] for line in record["lines"] for word in line["words"]]


def test_the_shipped_model_reads_without_torch(page: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from openpali.cli.main import app; app(['read', sys.argv[1]])"
    done = subprocess.run([sys.executable, "-c", code, page], capture_output=True, text=True)
    assert (done.returncode, "torch" in done.stderr) == (0, False)


def test_a_bundle_of_the_shipped_parts_reads_by_their_graphs(page: Path, tmp_path: Path) -> None:
    shipped = reader_of_bundle(Pali.from_pretrained("nano"))
    assert shipped.networks.finder.run.__module__ == runtime.__name__
    assert shipped.networks.words == ScreenReader.open().networks.words
    copied = Path(shutil.copytree(find_model("nano"), tmp_path / "copy"))
    assert reader_of_bundle(Pali.from_pretrained(str(copied))).networks.finder.run.__module__ != runtime.__name__


def test_json_has_boxes_and_confidences(bundle: Path, page: Path) -> None:
    record = json.loads(read(bundle, page, "--format", "json").stdout)
    assert (record["file"], record["page"], record["height"], record["width"]) == (str(page), 1, 90, 200)
    assert len(words_of(record)) >= 3
    for line in record["lines"]:
        assert line["text"] == " ".join(word["text"] for word in line["words"])
        for thing in (line, *line["words"]):
            ymin, xmin, ymax, xmax = thing["box"]
            assert ymin < ymax
            assert xmin < xmax
            assert 0 <= thing["confidence"] <= 1


def test_every_format_says_the_same(bundle: Path, page: Path) -> None:
    record = json.loads(read(bundle, page, "--format", "json").stdout)
    assert [line.text for line in reader_of_bundle(Pali.from_pretrained(bundle)).read_page(page)] == [
        line["text"] for line in record["lines"]
    ]
    rows = [[*lines] for _, lines in groupby(record["lines"], lambda line: line["row"])]
    texts = ["  ".join(line["text"] for line in row) for row in rows]
    assert record["text"].split("\n") == texts
    assert [line for line in read(bundle, page).stdout.strip("\f\n").split("\n") if line] == texts

    tsv = io.StringIO(read(bundle, page, "--format", "tsv").stdout)
    table = list(csv.DictReader(tsv, delimiter="\t", quoting=csv.QUOTE_NONE))
    blocks_of = [int(row["block_num"]) for row in table if row["level"] == "4"]
    assert blocks_of == [row[0]["block"] + 1 for row in rows]
    words = [row for row in table if row["level"] == "5"]
    assert [row["text"] for row in words] == words_of(record)
    assert all(0 <= float(row["conf"]) <= 100 for row in words)

    whole = ElementTree.fromstring(read(bundle, page, "--format", "hocr").stdout.split("\n", 2)[2])
    spans = [e for e in whole.iter() if e.get("class") == "ocrx_word"]
    assert [span.text for span in spans] == words_of(record)
    [shown] = [e for e in whole.iter() if e.get("class") == "ocr_page"]
    assert f'image "{page}"; bbox 0 0 200 90' in (shown.get("title") or "")


def page_of(rows: Sequence[Sequence[str]], angle: float = 0.0, legibility: float = 1.0) -> ReadPage:
    """A table of words of one letter height, 100 pixels apart."""
    lines = [
        ReadLine([ReadWord(text, box, 0.9)], box, block=0, row=i)
        for i, row in enumerate(rows)
        for j, text in enumerate(row)
        for box in [Box(20 * i, 100 * j, 20 * i + 12, 100 * j + 60)]
    ]
    return ReadPage(lines, Size(90, 300), 0.5, angle, legibility)


DF = [["Filesystem", "Size", "Use%"], ["/dev/sda1", "252G", "17"], ["tmpfs", "12G", "3"]]


def test_cells_that_share_a_baseline_are_a_row_in_each_format() -> None:
    page = page_of(DF)
    assert TextFormat().page(page) == "Filesystem  Size  Use%\n/dev/sda1  252G  17\ntmpfs  12G  3\n\f"
    assert page_json(page)["text"].split("\n")[1] == "/dev/sda1  252G  17"
    assert [(line["text"], line["row"]) for line in page_json(page)["lines"]] == [
        (text, i) for i, row in enumerate(DF) for text in row
    ]
    rows = [row.split("\t") for row in TsvFormat().page(page).splitlines()]
    lines = [row for row in rows if row[0] == "4"]
    assert [(int(row[6]), int(row[8])) for row in lines] == [(0, 260)] * 3
    assert [(row[4], row[5], row[11]) for row in rows if row[0] == "5"] == [
        (str(i), str(j), text) for i, row in enumerate(DF, 1) for j, text in enumerate(row, 1)
    ]
    spans = ElementTree.fromstring(HocrFormat().page(page))
    assert [[word.text for word in line] for line in spans] == DF


def test_the_angle_of_a_page_and_why_it_cannot_be_read_are_said() -> None:
    turned = page_of(DF, angle=-93.5, legibility=0.2)
    record = page_json(turned)
    assert (record["angle"], record["out_of_distribution"], record["reason"]) == (-93.5, True, "text")
    [line, *_] = ElementTree.fromstring(HocrFormat().page(turned))
    assert (line.get("title") or "").endswith("; textangle -93.5")
    upright = page_of(DF)
    record = page_json(upright)
    assert (record["angle"], record["out_of_distribution"], record["reason"]) == (0, False, None)
    assert "textangle" not in HocrFormat().page(upright)
    assert ReadPage([], Size(9, 9), 1.5).reason == "image"
    assert ReadPage([], Size(9, 9)).out_of_distribution is None


def test_pages_of_several_files_are_told_apart(bundle: Path, page: Path, tmp_path: Path) -> None:
    other = shutil.copy(page, tmp_path / "other.png")
    rows = list(csv.DictReader(io.StringIO(read(bundle, page, other, "--format", "tsv").stdout), delimiter="\t"))
    assert {row["page_num"] for row in rows} == {"1", "2"}
    whole = ElementTree.fromstring(read(bundle, page, other, "--format", "hocr").stdout.split("\n", 2)[2])
    named = [e.get("id") for e in whole.iter() if e.get("id")]
    assert len(named) == len({*named}) > 4


def test_a_drawing_replaces_no_input(bundle: Path, page: Path, tmp_path: Path) -> None:
    other = shutil.copy(page, tmp_path / "scan-2.png")
    before = other.read_bytes()
    found = read(bundle, page, other, "--out", tmp_path / "scan.png")
    assert found.exit_code == 1
    assert other.read_bytes() == before
    assert (tmp_path / "scan.png").is_file()


def test_pages_of_a_pdf_are_read_one_by_one(bundle: Path, tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (width, 60), "white") for width in (100, 140))
    first.save(tmp_path / "two.pdf", save_all=True, append_images=[second], resolution=72)
    found = read(bundle, tmp_path / "two.pdf", "--format", "json", "--dpi", 144, "--out", tmp_path / "drawn.png")
    pages = [json.loads(line) for line in found.stdout.splitlines()]
    assert [(p["page"], p["width"], p["height"]) for p in pages] == [(1, 200, 120), (2, 280, 120)]
    assert Image.open(tmp_path / "drawn-2.png").size == (280, 120 + LEGEND)


def test_pages_of_a_tiff_are_read_one_by_one(bundle: Path, tmp_path: Path) -> None:
    sizes = (100, 140, 120)
    first, *others = (Image.new("L", (width, 60), 255) for width in sizes)
    first.save(tmp_path / "scan.tif", save_all=True, append_images=others)
    found = read(bundle, tmp_path / "scan.tif", "--format", "json")
    assert [json.loads(line)["width"] for line in found.stdout.splitlines()] == [*sizes]


@pytest.mark.parametrize("copy_first", [False, True])
def test_smaller_copies_in_a_tiff_are_no_pages(tmp_path: Path, copy_first: bool) -> None:
    page, copy = Image.new("L", (100, 60), 255), Image.new("L", (50, 30), 255)
    kinds = [(page, 0), (copy, 1)]
    for image, kind in kinds:
        image.encoderinfo = {"tiffinfo": {ExifTags.Base.NewSubfileType: kind}}
    (first, kind), (second, _) = kinds[::-1] if copy_first else kinds
    about = {ExifTags.Base.NewSubfileType: kind}
    first.save(tmp_path / "scan.tif", save_all=True, append_images=[second], tiffinfo=about)
    assert [found().shape for found in pages_of(tmp_path / "scan.tif", 144)] == [(60, 100, 3)]


def test_a_page_that_is_too_large_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Image.new("L", (100, 60), 255), Image.new("L", (100, 90), 255)
    first.save(tmp_path / "scan.tif", save_all=True, append_images=[second])
    monkeypatch.setattr("openpali_screen.files.MAX_PIXELS", 7000)
    with pytest.raises(ValueError, match=r"page 2 of .*scan\.tif .* 7,000 pixels"):
        [page() for page in pages_of(tmp_path / "scan.tif", 144)]


@pytest.mark.parametrize("ending", ["pdf", "tif"])
@pytest.mark.parametrize(
    ("pages", "widths"), [("2", [140]), ("2-3", [140, 120]), ("3-9", [120]), ("", [100, 140, 120])]
)
def test_pages_are_chosen(bundle: Path, tmp_path: Path, ending: str, pages: str, widths: list[int]) -> None:
    path = tmp_path / f"scan.{ending}"
    first, *others = (Image.new("RGB", (width, 60), "white") for width in (100, 140, 120))
    first.save(path, save_all=True, append_images=others, resolution=72)
    found = read(bundle, path, "--format", "json", "--dpi", 72, "--pages", pages)
    records = [json.loads(line) for line in found.stdout.splitlines()]
    assert [record["width"] for record in records] == widths
    assert [record["page"] for record in records] == [{100: 1, 140: 2, 120: 3}[width] for width in widths]


def test_a_page_that_cannot_be_read_does_not_stop_those_after_it(bundle: Path, tmp_path: Path) -> None:
    document = pypdfium2.PdfDocument.new()
    for side in (40, 10_000, 50):
        document.new_page(side, side)
    document.save(tmp_path / "pages.pdf")
    found = read(bundle, tmp_path / "pages.pdf", "--format", "json", "--dpi", 600)
    assert [json.loads(line)["page"] for line in found.stdout.splitlines()] == [1, 3]
    assert found.exit_code == 1
    assert "page 2 of" in str(found.exception)


def test_a_name_outside_utf_8_is_escaped(bundle: Path, page: Path, tmp_path: Path) -> None:
    odd = tmp_path / "\udcff.png"
    page.rename(odd)
    for form in ("json", "hocr"):
        found = read(bundle, odd, "--format", form)
        assert found.exit_code == 0
        assert "udcff.png" in found.stdout


def test_a_page_that_is_not_there_is_named(bundle: Path, page: Path) -> None:
    assert "no page 2" in str(read(bundle, page, "--pages", "2-4").exception)
    for wrong in ("0", "4-2", "two", "1,2"):
        assert "--pages" in str(read(bundle, page, "--pages", wrong).exception)


def test_a_folder_stands_for_its_images_and_pdf_files(bundle: Path, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for name in ("b.pdf", "a.png", "c.tif"):
        Image.new("RGB", (90, 60), "white").save(scans / name)
    (scans / "notes.txt").write_text("not a page")
    found = read(bundle, scans, "--format", "json")
    files = [json.loads(line)["file"] for line in found.stdout.splitlines()]
    assert files == [str(scans / name) for name in ("a.png", "b.pdf", "c.tif")]
    (tmp_path / "empty").mkdir()
    assert "without images or PDF files" in str(read(bundle, tmp_path / "empty").exception)


def test_words_are_drawn_in_the_colour_of_their_confidence() -> None:
    words = [ReadWord("a", Box(5, 5, 15, 45), 0.0), ReadWord("b", Box(5, 60, 15, 90), 1.0)]
    drawn = np.array(draw_page(np.full((20, 200, 3), 255, np.uint8), [ReadLine(words, Box(5, 5, 15, 90))]))
    (red, green, _), (red2, green2, _) = drawn[5, 5].tolist(), drawn[14, 89].tolist()
    assert red > 200 > 20 > green
    assert green2 > 150 > 20 > red2
    assert (drawn[15:20] == 255).all(), "the page below the words"
    assert (drawn[20:] != 255).any(), "the legend"


def test_what_cannot_be_read_does_not_stop_the_others(bundle: Path, page: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4\n" + b"x" * 50)
    found = read(bundle, tmp_path / "broken.pdf", tmp_path / "none.png", page)
    assert found.exit_code == 1
    assert isinstance(found.exception, ValueError)
    assert "broken.pdf" in str(found.exception)
    assert "none.png" in str(found.exception)
    assert len(found.stdout) > 10


ROOT = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj "
PDF = ROOT + b"2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\n"
LOST = ROOT + b"2 0 obj<</Type/Pages/Kids[9 0 R]/Count 1>>endobj\n"
LOCK = b"3 0 obj<</Filter/Standard/V 1/R 2/O(%b)/U(%b)/P -4>>endobj\n" % (b"o" * 32, b"u" * 32)
ID = b"[(0123456789abcdef)(0123456789abcdef)]"


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("notes.png", b"no image", "is not an image"),
        ("empty.pdf", PDF + b"trailer<</Root 1 0 R>>\n", "no pages"),
        ("lost.pdf", LOST + b"trailer<</Root 1 0 R>>\n", "is damaged"),
        ("locked.pdf", PDF + LOCK + b"trailer<</Root 1 0 R/Encrypt 3 0 R/ID%b>>\n" % ID, "password"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path: Path, name: str, data: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=rf"{name} .*{told}"):
        [page() for page in pages_of(tmp_path / name, 144)]


def test_a_page_tree_that_holds_itself_is_one_error(bundle: Path, page: Path, tmp_path: Path) -> None:
    tree = b"2 0 obj<</Type/Pages/Kids[2 0 R 2 0 R]/Count 1000000>>endobj\n"
    (tmp_path / "tree.pdf").write_bytes(ROOT + tree + b"trailer<</Root 1 0 R>>\n")
    found = read(bundle, tmp_path / "tree.pdf", page)
    assert found.exit_code == 1
    assert str(found.exception).count("tree.pdf") == 1
    assert len(found.stderr) < 1000
    assert len(found.stdout) > 10  # the others are read


def test_progress_of_many_files_is_not_in_what_is_printed(
    bundle: Path, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openpali_screen.text._LEGIBLE", 0)  # of random weights, or there would be a warning
    alone = read(bundle, page)
    assert not alone.stderr
    monkeypatch.setenv("FORCE_COLOR", "1")  # for rich, a terminal
    both = read(bundle, page, page)
    assert both.stdout == 2 * alone.stdout
    assert "Reading" in both.stderr


def test_a_model_without_readers_says_so(readers: Path, page: Path) -> None:
    found = read(readers, page)
    assert found.exit_code == 1
    assert "finder" in str(found.exception)


def test_the_commands_of_the_documentation_run(
    shipped: Path, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page.rename("screen.png")
    blank = Image.new("RGB", (100, 60), "white")
    blank.save("manual.pdf", save_all=True, append_images=[blank] * 2, resolution=72)
    record = {"images": ["screen.png"], "question": "What is it?", "answers": ["a page"]}
    Path("mine.jsonl").write_text(json.dumps(record) + "\n")
    text = (Path(__file__).parents[1] / "docs" / "reading.md").read_text("utf-8")
    lines = [line for block in re.findall(r"```bash\n(.*?)```", text, re.S) for line in block.splitlines()]
    copied, *lines = lines
    assert copied == "cp packages/openpali/src/openpali/demo/screen.webp screen.png"
    assert len(lines) == 12
    for line in lines:
        run_typed(line, monkeypatch, capsys)
    blocks, names = re.findall(r"```python\n(.*?)```", text, re.S), {}
    assert len(blocks) == 2
    for python in blocks:  # the last goes on with the model of the one before
        exec(compile(python, "docs/reading.md", "exec"), names)
        assert capsys.readouterr().out


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
    assert set(written["slices"]) == ({"light", "dark"} if name == "real/screens" else {"Latin"})
