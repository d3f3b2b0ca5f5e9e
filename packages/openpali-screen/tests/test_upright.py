"""Pages that are turned, skewed or in another script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

from openpali import Pali
from openpali.home import FONTS
from openpali.tasks.example import Box, Image, Size
from openpali_screen import page as pages
from openpali_screen.bundles import reader_of_bundle
from openpali_screen.find.predict import FoundLine, FoundText
from openpali_screen.networks import FinderNetwork, ReaderNetwork
from openpali_screen.page import read_page
from openpali_screen.reader import ScreenReader
from openpali_screen.text import ReadLine, ReadPage, ReadWord
from openpali_screen.views import Turn, skew_of

ANGLES = [0, 90, 180, -90, 4, -7.5, 94, -176]
SIZE = Size(120, 200)


def given_at(upright: Image, angle: float) -> Image:
    """A page whose text runs at an angle."""
    return Turn(Size(*upright.shape[:2]), -angle).upright(upright)


@pytest.mark.parametrize("angle", ANGLES)
def test_boxes_are_where_things_are_on_the_page_as_it_was_given(angle: float) -> None:
    page = np.zeros((*SIZE, 3), np.uint8)
    page[30:50, 20:70] = 255
    given = given_at(page, angle)
    turn = Turn(Size(*given.shape[:2]), angle)
    upright = turn.upright(given)
    shown = [int(edge) for edge in np.argwhere(upright[..., 0] > 128).min(0)]
    size = Size(*upright.shape[:2])
    box = turn.given(Box(shown[0], shown[1], shown[0] + 20, shown[1] + 50), size)
    white = np.argwhere(given[..., 0] > 128)
    assert box == pytest.approx([*white.min(0), *(white.max(0) + 1)], abs=1e-9 if angle % 90 == 0 else 2)
    if angle % 90 == 0:
        np.testing.assert_array_equal(upright, page)


@pytest.mark.parametrize("angle", [0, 0.25, 1, -3, 4, -10])
def test_the_skew_of_lines_is_found(angle: float) -> None:
    page = np.zeros((600, 900, 3), np.uint8)
    for top in range(60, 540, 30):
        page[top : top + 4, 60 : 700 + top % 90] = 255
    text = given_at(page, angle)[::4, ::4, 0] > 128
    assert skew_of(text) == pytest.approx(angle if abs(angle) >= 0.5 else 0, abs=0.25)
    assert skew_of(np.zeros((9, 9), bool)) == 0


@pytest.mark.parametrize("angle", [0, 90, 180, -90])
def test_a_page_is_turned_until_it_can_be_read(angle: float, monkeypatch: pytest.MonkeyPatch) -> None:
    upright = np.zeros((*SIZE, 3), np.uint8)
    upright[10:22, 20:60] = 255
    looks = []

    def find(finder: FinderNetwork, image: Image) -> FoundText:
        looks.append(image)
        lines = [FoundLine(Box(10, 20, 22, 60), 0.9), FoundLine(Box(90, 20, 99, 90), 0.6)]
        return FoundText(lines, np.zeros(2, np.float32), 0.0)

    def read(reader: ReaderNetwork, image: Image, boxes: Sequence[Box], language: None) -> list[ReadLine]:
        sure = 0.95 if image[12, 25, 0] and image.shape[:2] == SIZE else 0.4
        return [ReadLine([ReadWord("word", box, sure if box.ymin < 50 else 0.1)], box) for box in boxes]

    monkeypatch.setattr(pages, "find_text", find)
    monkeypatch.setattr(pages, "read_lines", read)
    given = given_at(upright, angle)
    reading = read_page(cast(FinderNetwork, None), cast(ReaderNetwork, None), given)
    assert (reading.angle, reading.legibility, reading.reason) == (angle, 1, None)  # the faint line does not count
    assert len(looks) == {0: 1, 180: 2, 90: 3, -90: 4}[angle]
    white = np.argwhere(given[..., 0])
    assert reading.lines[0].box == pytest.approx([*white.min(0), *(white.max(0) + 1)])
    unread = read_page(cast(FinderNetwork, None), cast(ReaderNetwork, None), np.zeros_like(given))
    assert (unread.angle, unread.reason, unread.lines[0].box) == (0, "text", Box(10, 20, 22, 60))


@pytest.fixture(scope="module")
def nano() -> ScreenReader:
    return reader_of_bundle(Pali.from_pretrained("nano"))


def drawn(texts: Sequence[str], font: str) -> Image:
    page = PilImage.new("RGB", (460, 40 + 34 * len(texts)), "white")
    for i, text in enumerate(texts):
        ImageDraw.Draw(page).text((20, 20 + 34 * i), text, "black", ImageFont.truetype(FONTS / font, 18))
    return np.array(page)


LATIN = [
    "The harbour was quiet when the first boats",
    "came back. Their crews had been out for",
    "eleven days, and most of the catch was sold",
    "by noon; nobody asked for the fourth boat",
]


def text_of(reading: ReadPage) -> list[str]:
    return [line.text for line in reading.lines]


@pytest.mark.parametrize("angle", [90, 180, -90, 4, -176])
def test_nano_reads_turned_and_skewed_pages(nano: ScreenReader, angle: float) -> None:
    page = drawn(LATIN, "NotoSans-Subset.ttf")
    reading = nano.page(255 - given_at(255 - page, angle))
    assert text_of(reading) == text_of(nano.page(page)) == LATIN
    assert reading.angle == pytest.approx(angle, abs=0.5)
    assert not reading.out_of_distribution


def test_nano_says_that_it_cannot_read_a_script(nano: ScreenReader) -> None:
    reading = nano.page(
        drawn(["かさきけこすせたちつてにぬのはひ"[i:] + "カキクケコサ" for i in range(5)], "NotoSansCJK-Subset.otf")
    )
    assert (reading.out_of_distribution, reading.reason, reading.angle) == (True, "text", 0)
    words = [word for line in reading.lines for word in line.words]
    assert np.mean([word.confidence for word in words] or [0]) < 0.25
