"""What the objectives of pages see: parts of pages and pieces of lines, with their truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PilImage

from openpali.data.media.images import Preprocess
from openpali.rng import generator
from openpali.tasks.example import Box, Example, Line, Object, Word
from openpali.text.characters import CHARACTERS, numbers_of, plain
from openpali_screen.find.encode import FindingEncoder, mark_cells
from openpali_screen.read.encode import ReadingEncoder
from openpali_screen.views import View, random_view, recolour, view_of_line
from openpali_screen.vit import CELL


def page(readable: bool = True) -> Example:
    """A page of 120 x 200 pixels, black where its two lines are."""
    image = np.full((120, 200, 3), 255, np.uint8)
    words = [Word("ab", Box(20, 16, 42, 60)), Word("c", Box(20, 66, 42, 80))]
    other = [Word("dd", Box(60, 100, 82, 150))]
    for word in (*words, *other):
        ymin, xmin, ymax, xmax = map(int, word.box)
        image[ymin:ymax, xmin:xmax] = 0
    return Example(
        "page", [image], lines=[Line(words, readable), Line(other, readable)], ignored=[Box(90, 0, 120, 40)]
    )


def test_cells_of_a_line_reach_to_its_top_and_bottom() -> None:
    text, up, down, weight = mark_cells([Box(20, 16, 42, 80)], [Box(40, 0, 60, 10)], 120, 200)
    assert text.shape == up.shape == down.shape == weight.shape == (30, 50)
    rows, columns = np.nonzero(text == 1)
    assert set(rows) == {7, 8}  # centres at 30 and 34, about the middle at 31
    assert (columns.min(), columns.max()) == (4, 19)
    np.testing.assert_allclose(rows * CELL + CELL / 2 - up[rows, columns], 20)
    np.testing.assert_allclose(rows * CELL + CELL / 2 + down[rows, columns], 42)
    assert (text == -1).sum() == 5 * 3


@given(st.floats(4, 60), st.floats(0, 100), st.floats(1, 190))
def test_every_line_has_a_cell(height: float, ymin: float, xmin: float) -> None:
    line = Box(ymin, xmin, ymin + height, xmin + 2 * CELL)
    assert (mark_cells([line], [], 200, 240)[0] == 1).any()


def test_the_cells_of_a_short_line_weigh_about_as_much_as_those_of_a_longer_one() -> None:
    text, _, _, weight = mark_cells([Box(20, 16, 32, 24), Box(60, 16, 82, 180)], [], 120, 200)
    short, long = (np.flatnonzero(text[rows].ravel() == 1) for rows in (slice(0, 10), slice(12, 30)))
    assert 12 < weight[:10].ravel()[short].sum() < 48
    assert set(weight[12:].ravel()[long]) == {1.0}
    assert set(weight[text != 1]) == {1.0}
    text, _, _, weight = mark_cells([Box(60, -400, 82, 6)], [], 120, 200)
    assert (text == 1).any()
    assert set(weight.ravel()) == {1.0}  # the end of a long line


@given(st.integers(20, 400), st.integers(20, 400), st.floats(0, 1), st.floats(0, 1), st.floats(0.5, 2))
def test_an_aimed_view_is_of_the_page(tall: int, wide: int, down: float, right: float, scale: float) -> None:
    image, rng = PilImage.new("RGB", (wide, tall)), np.random.default_rng(0)
    box = Box(down * tall, right * wide, down * tall, right * wide)
    top, left, *_ = random_view(image, 64, 128, (scale, scale), rng, box)
    for start, side, own, centre in ((top, 64, tall, box.ymin), (left, 128, wide, box.xmin)):
        assert start <= centre <= start + side / scale + 1e-6
        if own >= side / scale:
            assert -1e-6 <= start <= own - side / scale + 1e-6


def test_aimed_views_show_a_short_line() -> None:
    word = Word("7", Box(400, 700, 412, 708))
    corner = Example("page", [np.full((900, 900, 3), 255, np.uint8)], lines=[Line([word])])

    def share(aimed: float) -> float:
        encoder = FindingEncoder(aimed=aimed)
        views = [encoder.encode(corner, None, Preprocess(128, 128), generator(i)) for i in range(40)]
        return float(np.mean([(view["text"] == 1).any() for view in views]))

    assert share(0.0) < 0.2
    assert share(1.0) > 0.9


def test_a_view_moves_boxes_as_it_moves_pixels() -> None:
    example = page()
    view = View(10, 8, 1.5, 1.5)
    pixels = view.of(PilImage.fromarray(np.asarray(example.images[0])), 96, 128)
    box = view.box(example.lines[0].words[0].box)
    inside = pixels[round(box.ymin) + 2 : round(box.ymax) - 2, round(box.xmin) + 2 : round(box.xmax) - 2]
    assert inside.max() < 20
    assert pixels[: round(box.ymin) - 2].min() > 235


def test_parts_of_pages_agree_with_their_cells() -> None:
    encoder = FindingEncoder((1.0, 1.0))
    batch = encoder.collate([encoder.encode(page(), None, Preprocess(96, 96), generator(i)) for i in range(8)])
    assert batch["images"].shape == (8, 96, 96, 3)
    assert batch["text"].dtype == torch.int8
    assert (batch["text"] == 1).any()
    dark = batch["images"][..., 0].view(8, 24, CELL, 24, CELL).float().mean((2, 4)) < 128
    assert bool((dark | (batch["text"] != 1)).float().mean() > 0.97)  # but for the space between the two words


def test_lines_are_cut_at_one_height_with_room_around_them() -> None:
    image = PilImage.fromarray(np.asarray(page().images[0]))
    view, width = view_of_line(page().lines[1].box, 32, 512)
    assert width % 16 == 0
    pixels = view.of(image, 32, width)
    dark = pixels[..., 0] < 128
    rows = np.flatnonzero(dark.any(1))
    assert (rows[0], rows[-1]) == (pytest.approx(3, abs=1), pytest.approx(28, abs=1))
    squeezed, width = view_of_line(page().lines[1].box, 32, 48)
    assert width == 48
    assert squeezed.left + width / squeezed.right >= page().lines[1].box.xmax  # no line is cut off


def test_other_colours_keep_what_is_written() -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    for seed in range(20):
        brightness = recolour(grey, np.random.default_rng(seed)).astype(int).sum(2)[0]
        assert abs(brightness[-1] - brightness[0]) >= 3 * 63
    assert len({recolour(grey, np.random.default_rng(seed)).tobytes() for seed in range(20)}) == 20


def test_dark_or_light_tones_of_other_colours_become_alike() -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    middles = []
    for seed in range(20):
        dark, middle, light = recolour(grey, np.random.default_rng(seed), 2.0).astype(int).sum(2)[0, [0, 127, 255]]
        assert abs(light - dark) >= 3 * 63
        middles.append((middle - dark) / (light - dark))
    assert 0.2 < min(middles) < 0.35
    assert 0.6 < max(middles) < 0.75


def test_pieces_of_lines_come_with_their_characters() -> None:
    encoder = ReadingEncoder(pieces=6, recoloured=0)
    samples = [encoder.encode(page(), None, Preprocess(32, 256), generator(i)) for i in range(4)]
    batch = encoder.collate(samples)
    assert batch["lines"].shape[1] == 32
    assert batch["lines"].shape[2] % 64 == 0
    texts = {"".join(CHARACTERS[n - 1] for n in row if n) for row in batch["characters"].tolist()}
    assert texts <= {"ab", "ab c", "c", "dd"}
    assert len(texts) > 2
    assert batch["row"].tolist() == sorted(batch["row"].tolist())
    for row, columns in zip(batch["lines"], batch["columns"].tolist(), strict=True):
        assert (row[:, 16 * columns :] == 0).all()


def test_characters_have_places_in_their_words() -> None:
    image = np.full((60, 300, 3), 255, np.uint8)
    words = [Word("mi", Box(20, 40, 40, 80)), Word("o", Box(20, 120, 40, 140))]
    encoder = ReadingEncoder(pieces=8, recoloured=0)
    arrays = encoder.encode(Example("x", [image], lines=[Line(words)]), None, Preprocess(32, 512), generator(1))
    rows = zip(arrays["characters"].tolist(), arrays["places"].tolist(), arrays["columns"].tolist(), strict=True)
    whole = [(places, columns) for row, places, columns in rows if row == numbers_of("mi o")]
    assert whole
    for (m, i, space, o), columns in whole:
        assert 0 <= m < i < space < o < 4 * columns
        assert o - space > i - m  # words of one width, and m is wider than i
    lone = encoder.encode(Example("x", [image], text="Öl"), None, Preprocess(32, 512), generator(1))
    assert lone["places"].tolist() == [[-1, -1]]  # nobody knows


def test_the_next_word_of_a_line_is_not_seen() -> None:
    """Else a model learns to leave out letters at the end of a box."""
    [image], [line, _] = page().images, page().lines
    image[20:42, 66:80] = [200, 0, 0]
    whole, cut = 0, 0
    for seed in range(200):
        batch = ReadingEncoder(pieces=1, recoloured=0).encode(
            Example("x", [image], lines=[line]), None, Preprocess(32, 512), generator(seed)
        )
        [shown] = batch["lines"]
        red = bool(((shown[..., 0] > 120) & (shown[..., 1] < 60)).any())
        said = "".join(CHARACTERS[n - 1] for n in batch["characters"][0])
        assert red == ("c" in said)
        whole, cut = whole + red, cut + (not red)
    assert whole
    assert cut


def test_icons_say_nothing_alone_or_beside_a_line() -> None:
    [image], [line, _] = page().images, page().lines
    (ymin, xmin, ymax, _), red = line.box, [200, 0, 0]
    places = Box(ymin, xmin - 14, ymax, xmin - 3), Box(80, 90, 96, 106)
    icons = [Object("", place, role="icon") for place in places]
    for icon in icons:
        top, left, bottom, right = map(int, icon.box)
        image[top:bottom, left:right] = red
    seen = set()
    for seed in range(300):
        batch = ReadingEncoder(pieces=1, recoloured=0).encode(
            Example("x", [image], lines=[line], objects=icons), None, Preprocess(32, 512), generator(seed)
        )
        [shown] = batch["lines"]
        ink = bool(((shown[..., 0] > 120) & (shown[..., 1] < 60)).any())
        seen.add((ink, "".join(CHARACTERS[n - 1] for n in batch["characters"][0] if n)))
    assert {(True, ""), (True, "ab c"), (False, "ab c")} <= seen
    assert (False, "") not in seen


def test_what_cannot_be_read_is_a_bad_sample() -> None:
    encoder = ReadingEncoder(16)
    with pytest.raises(ValueError, match="page has no line"):
        encoder.encode(page(readable=False), None, Preprocess(32, 256), generator(1))
    with pytest.raises(ValueError, match="lines or text"):
        encoder.encode(Example("x", page().images), None, Preprocess(32, 256), generator(1))
    with pytest.raises(ValueError):
        FindingEncoder().encode(Example("x", page().images), None, Preprocess(32, 32), generator(1))


def test_an_image_of_one_line_is_read_whole() -> None:
    image = np.full((20, 60, 3), 255, np.uint8)
    encoder = ReadingEncoder(recoloured=0)
    arrays = encoder.encode(Example("x", [image], text="Öl"), None, Preprocess(32, 256), generator(1))
    assert arrays["characters"].tolist() == [numbers_of("Öl")]


def test_characters_are_distinct_and_texts_are_made_plain() -> None:
    assert CHARACTERS[0] == " "
    assert len(set(CHARACTERS)) == len(CHARACTERS)
    assert all(plain(c) == c or plain(c) in CHARACTERS for c in CHARACTERS)
    assert plain("ﬁn e\u0301‐x") == "fin é-x"
    assert numbers_of("αβ Ж") is not None
    assert numbers_of("漢") is None
