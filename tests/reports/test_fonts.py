"""Answers are drawn in any script that the built fonts cover; a note replaces the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image

from openpali.reports.drawing import NO_FONT, draw_answer, draw_prediction
from openpali.reports.fonts import find_font
from openpali.synth.fonts import PILLOW
from openpali.tasks.base import Answer
from openpali.tasks.example import Box, Object

GREY = np.full((60, 200, 3), 128, np.uint8)
SAMPLES = {"ru": "Красное яблоко", "el": "κόκκινο μήλο", "ja": "赤いりんご", "ko": "빨간 사과", "zh": "红苹果"}
CJK = "".join(sorted(set("".join(SAMPLES[code] for code in ("ja", "ko", "zh"))) - {" "}))


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
def fonts(world_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with the Latin fonts of the test world, and a font of blocks for East Asian scripts."""
    folder = tmp_path / "data/stamps/fonts"
    (folder / "Latn").mkdir(parents=True)
    (folder / "Hani").mkdir()
    for file in (world_home / "data/stamps/fonts/Latn").iterdir():
        (folder / "Latn" / file.name).write_bytes(file.read_bytes())
    block_font(folder / "Hani/Blocks-Regular.ttf", CJK)
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path))
    return folder


def strip(image: Image.Image) -> np.ndarray:
    """The pixels of the white strip below the image."""
    return np.asarray(image)[60:].astype(int)


@pytest.mark.parametrize("language", SAMPLES)
def test_each_script_is_drawn_with_a_font_that_covers_it(fonts: Path, language: str) -> None:
    text = SAMPLES[language]
    file = find_font(text)
    assert isinstance(file, Path)
    assert file.stem == ("DejaVuSans" if language in ("ru", "el") else "Blocks-Regular")
    drawn = strip(draw_prediction(GREY, Answer(text)))
    assert (drawn < 100).any()
    other = strip(draw_prediction(GREY, Answer(text[::-1])))
    assert drawn.shape != other.shape or (drawn != other).any()  # not the same box for each character
    note = strip(draw_answer(GREY, text=NO_FONT))
    assert drawn.shape != note.shape or (drawn != note).any()


def test_a_note_replaces_words_that_no_font_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path))
    assert find_font("赤い") is None
    note = strip(draw_answer(GREY, text=NO_FONT))
    for text in SAMPLES.values():
        np.testing.assert_array_equal(strip(draw_answer(GREY, text=text)), note)
    both = strip(draw_answer(GREY, text="red 赤い りんご apple"))
    np.testing.assert_array_equal(both, strip(draw_answer(GREY, text=f"red {NO_FONT} apple")))


def test_names_of_boxes_are_drawn_too(fonts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box(5, 5, 55, 190)
    drawn = draw_answer(GREY, [Object(SAMPLES["zh"], box)])
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path / "empty"))
    without = draw_answer(GREY, [Object(SAMPLES["zh"], box)])
    noted = draw_answer(GREY, [Object("(no font)", box)])
    np.testing.assert_array_equal(np.asarray(without), np.asarray(noted))
    assert (np.asarray(drawn) != np.asarray(noted)).any()
    assert (np.asarray(drawn)[8:20, 8:60] == 255).all(axis=-1).any()  # white letters


def test_long_words_are_cut_to_the_width_of_the_image(fonts: Path) -> None:
    text = CJK * 8
    drawn = strip(draw_answer(GREY, text=text))
    assert (drawn[:, -3:] == 255).all()
    assert len(drawn) > 5 * 12
    assert (drawn < 100).any(axis=(1, 2)).sum() > 40  # on many lines


def test_latin_is_drawn_in_pillows_own_font(fonts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_font("apples") == PILLOW
    drawn = np.asarray(draw_answer(GREY, text="two red apples"))
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path / "empty"))
    np.testing.assert_array_equal(drawn, np.asarray(draw_answer(GREY, text="two red apples")))
