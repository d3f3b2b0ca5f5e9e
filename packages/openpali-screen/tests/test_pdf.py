"""Searchable PDF files: the text that PDFium extracts, and where it is."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pypdfium2
import pytest

import openpali_screen.pdf as pdf
from openpali_screen.geometry import Box, Size, around
from openpali_screen.text import ReadLine, ReadPage, ReadWord

SCREEN = Path(__file__).parents[2] / "openpali" / "src" / "openpali" / "demo" / "screen.webp"
IMAGE = np.full((300, 400, 3), 90, np.uint8)
DPI = 144.0


def page(*texts: str) -> ReadPage:
    """Lines of words of 10 pixels a character."""
    lines = []
    for row, text in enumerate(texts):
        words, left = [], 20.0
        for word in text.split():
            box = Box(40 * row + 20, left, 40 * row + 40, left + 10 * len(word))
            words.append(ReadWord(word, box, 1.0))
            left = box.xmax + 3
        lines.append(ReadLine(words, around(word.box for word in words), row=row))
    return ReadPage(lines, Size(*IMAGE.shape[:2]))


def written(*pages: ReadPage) -> pypdfium2.PdfDocument:
    writer = pdf.PdfFormat(DPI)
    for each in pages:
        writer.show(IMAGE)
        writer.page(each)
    writer.save(out := io.BytesIO())
    return pypdfium2.PdfDocument(out.getvalue())


def test_text_is_found_where_the_words_are() -> None:
    read = page("Invoice 2024", "Grüße, naïve", "Total: $49.85")
    document = written(read, page("second"))
    assert len(document) == 2
    assert document[0].get_size() == (200, 150)
    text = document[0].get_textpage()
    assert text.get_text_bounded().split() == [word.text for line in read.lines for word in line.words]
    for word in (word for line in read.lines for word in line.words):
        at = text.search(word.text, match_case=True).get_next()
        assert at is not None, word.text
        rects = [text.get_charbox(i, loose=False) for i in range(at[0], at[0] + at[1])]
        left, bottom = min(rect[0] for rect in rects), min(rect[1] for rect in rects)
        right, top = max(rect[2] for rect in rects), max(rect[3] for rect in rects)
        assert 2 * left == pytest.approx(word.box.xmin, abs=3)
        assert 2 * right == pytest.approx(word.box.xmax, abs=3)
        assert word.box.ymin - 2 <= 300 - 2 * top < 300 - 2 * bottom <= word.box.ymax + 4


def test_the_page_looks_as_its_image() -> None:
    drawn = written(page("not to be seen"))[0].render(scale=2).to_numpy()
    assert drawn.shape[:2] == IMAGE.shape[:2]
    assert np.abs(drawn[..., :3].astype(int) - 90).max() <= 3


@pytest.mark.skipif(pdf.font_file() is None, reason="no font with Cyrillic and Greek")
def test_cyrillic_and_greek_are_embedded() -> None:
    assert written(page("Привет, мир", "Καλημέρα"))[0].get_textpage().get_text_bounded().split() == [
        *("Привет,", "мир", "Καλημέρα")
    ]


def test_words_without_a_font_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "font_file", lambda: None)
    writer = pdf.PdfFormat(DPI)
    writer.show(IMAGE)
    writer.page(page("Hello Привет"))
    writer.save(out := io.BytesIO())
    assert writer.left_out == 1
    assert pypdfium2.PdfDocument(out.getvalue())[0].get_textpage().get_text_bounded().split() == ["Hello"]


def test_the_command_writes_the_pages_that_it_could_read(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    code = "import sys; sys.modules['torch'] = None; from openpali_screen.cli import main; main()"
    command = [sys.executable, "-c", code, str(tmp_path / "broken.png"), str(SCREEN), "--format", "pdf"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"broken.png" in done.stderr
    [only] = pypdfium2.PdfDocument(done.stdout)
    assert {"Gentelella", "Dashboards", "Calendar"} <= {*only.get_textpage().get_text_bounded().split()}
