"""Answers are drawn in any script that the fonts of the package or the built ones cover; a note replaces others."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image

from openpali.reports.drawing import NO_FONT, count_mask_tokens, draw_answer, draw_prediction
from openpali.reports.fonts import find_font
from openpali.reports.html import write_page
from openpali.tasks.base import Answer
from openpali.tasks.example import Box, Object

GREY = np.full((60, 200, 3), 128, np.uint8)
SAMPLES = {"ru": "Красное яблоко", "el": "κόκκινο μήλο", "ja": "あかい りんご", "ko": "빨간 사과", "zh": "红苹果"}
GEORGIAN = "წითელი ვაშლი"  # a script that the package has no font for
LETTERS = "".join(sorted(set(GEORGIAN) - {" "}))


def block_font(path: Path, characters: str) -> None:
    """Write a font whose characters are blocks of different widths."""
    names = [".notdef", *(f"g{i}" for i in range(len(characters)))]
    builder = FontBuilder(1000)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(c): name for c, name in zip(characters, names[1:], strict=True)})
    glyphs = {}
    for i, name in enumerate(names):
        pen = TTGlyphPen(None)
        pen.moveTo((100, 0))
        for corner in ((100, 700), (200 + 30 * i, 700), (200 + 30 * i, 0)):
            pen.lineTo(corner)
        pen.closePath()
        glyphs[name] = pen.glyph()
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics({name: (1000, 100) for name in names})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


@pytest.fixture
def fonts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose built fonts are one of blocks for Georgian."""
    folder = tmp_path / "data/stamps/fonts/Geor"
    folder.mkdir(parents=True)
    block_font(folder / "Blocks-Regular.ttf", LETTERS)
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path))
    return folder


@pytest.fixture
def no_fonts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home without built fonts."""
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path / "empty"))


def strip(image: Image.Image) -> np.ndarray:
    """The pixels of the white strip below the image."""
    return np.asarray(image)[60:].astype(int)


@pytest.mark.parametrize("language", SAMPLES)
@pytest.mark.usefixtures("no_fonts")
def test_the_languages_of_nano_are_drawn_with_the_fonts_of_the_package(language: str) -> None:
    text = SAMPLES[language]
    file = find_font(text)
    assert isinstance(file, Path)
    assert file.name == ("NotoSans-Subset.ttf" if language in ("ru", "el") else "NotoSansCJK-Subset.otf")
    check_drawn(text)


def test_other_scripts_are_drawn_with_the_built_fonts(fonts: Path) -> None:
    assert find_font(GEORGIAN) == fonts / "Blocks-Regular.ttf"
    check_drawn(GEORGIAN)


def check_drawn(text: str) -> None:
    drawn = strip(draw_prediction(GREY, Answer(text)))
    assert (drawn < 100).any()
    other = strip(draw_prediction(GREY, Answer(text[::-1])))
    assert drawn.shape != other.shape or (drawn != other).any()  # not the same box for each character
    note = strip(draw_answer(GREY, text=NO_FONT))
    assert drawn.shape != note.shape or (drawn != note).any()


@pytest.mark.usefixtures("no_fonts")
def test_a_note_replaces_words_that_no_font_can_write() -> None:
    assert find_font(GEORGIAN) is None
    note = strip(draw_answer(GREY, text=NO_FONT))
    np.testing.assert_array_equal(strip(draw_answer(GREY, text=GEORGIAN)), note)
    both = strip(draw_answer(GREY, text=f"red {GEORGIAN} apple"))
    np.testing.assert_array_equal(both, strip(draw_answer(GREY, text=f"red {NO_FONT} apple")))


def test_a_character_that_cannot_be_shaped_is_no_error() -> None:
    """Raqm refuses an unassigned character that is ignorable, with the font of Korean."""
    draw_prediction(np.zeros((60, 80, 3), np.uint8), Answer("한\U000e0297"))


def test_names_of_boxes_are_drawn_too(fonts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box(5, 5, 55, 190)
    drawn = [draw_answer(GREY, [Object(text, box)]) for text in (GEORGIAN, SAMPLES["zh"])]
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path / "empty"))
    without = draw_answer(GREY, [Object(GEORGIAN, box)])
    noted = np.asarray(draw_answer(GREY, [Object("(no font)", box)]))
    white = [(np.asarray(image) == 255).all(axis=-1) for image in (without, noted)]  # colours go by name
    np.testing.assert_array_equal(*white)
    assert white[0].any()
    for each in map(np.asarray, drawn):
        assert (each != noted).any()
        assert (each > 200).all(axis=-1).any()  # white letters


def test_long_words_are_cut_to_the_width_of_the_image(fonts: Path) -> None:
    text = LETTERS * 12
    drawn = strip(draw_answer(GREY, text=text))
    assert (drawn[:, -3:] == 255).all()
    assert len(drawn) > 5 * 12
    assert (drawn < 100).any(axis=(1, 2)).sum() > 40  # on many lines


def test_pages_carry_the_fonts_that_their_letters_need(tmp_path: Path) -> None:
    def fonts_of(text: str) -> list[str]:
        page, template = tmp_path / "page.html", tmp_path / "template.html"
        template.write_text("<style>$style</style>$text")
        write_page(page, template, text=text)
        css = page.read_text("utf-8")
        embedded = re.findall(r'font-family: "([^"]+)"; .+base64,(?:AAEAAAA|T1RUTw)', css)
        names = "".join(f'"{name}", ' for name in embedded)
        assert f"font: 16px/1.5 {names}system-ui" in css  # before the fonts of the system
        return embedded

    assert fonts_of("Äpfel, pommes: 3 × 2") == []
    assert fonts_of(SAMPLES["el"]) == ["NotoSans-Subset"]
    assert fonts_of(f"apple {SAMPLES['ko']}") == ["NotoSansCJK-Subset"]
    assert fonts_of(SAMPLES["ru"] + SAMPLES["ja"]) == ["NotoSans-Subset", "NotoSansCJK-Subset"]
    assert fonts_of(GEORGIAN) == []


def test_mask_tokens_are_counted() -> None:
    assert count_mask_tokens("1 2 3 4 <mask_token7> <mask_token12> a <seg001><seg002>") == (
        "1 2 3 4 [2 mask tokens] a [2 mask tokens]"
    )
