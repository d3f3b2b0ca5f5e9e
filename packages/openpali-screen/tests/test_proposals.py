"""What on a screen may be an element."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PilImage
from PIL import ImageDraw

from openpali.metrics.boxes import box_iou
from openpali.tasks.example import Box, Example, Image, Line, Object, Word
from openpali_screen.elements.encode import ROLES, ElementEncoder, elements_of, mark_elements
from openpali_screen.elements.network import KINDS, VIEWS
from openpali_screen.elements.proposals import MOST, neighbours, propose, shares, views

TEXT = Box(28, 40, 44, 100)
BUTTON, FIELD, ICON = Box(20, 30, 52, 110), Box(80, 30, 110, 190), Box(24, 150, 46, 172)


@pytest.fixture
def screen() -> Image:
    image = PilImage.new("RGB", (240, 140), (250, 250, 250))
    draw = ImageDraw.Draw(image)
    draw.rectangle((30, 20, 109, 51), fill=(30, 90, 200))
    for left in range(42, 98, 8):  # letters
        draw.rectangle((left, 31, left + 4, 41), fill=(255, 255, 255))
    draw.rectangle((30, 80, 189, 109), outline=(120, 120, 120))
    draw.ellipse((150, 24, 171, 45), outline=(0, 0, 0), width=3)
    draw.line((161, 35, 170, 44), fill=(0, 0, 0), width=3)
    return np.array(image)


def test_lines_regions_and_figures_are_proposed(screen) -> None:
    boxes, kinds = propose(screen, [TEXT])
    assert Box(*boxes[0].tolist()) == TEXT
    assert KINDS[kinds[0]] == "text"
    best = box_iou(np.array([BUTTON, FIELD, ICON], np.float32), boxes)
    assert (best.max(1) > 0.85).all()
    assert {KINDS[kind] for kind in kinds[best[:2].argmax(1)]} <= {"region", "figure"}
    parts = shares(boxes[1:], np.array([TEXT], np.float32))
    assert parts.max() < 0.7  # letters are no proposals of their own
    assert (shares(np.array([[0, 0, 140, 240]], np.float32), boxes) < 0.8).all()  # nor is the ground


def test_without_lines_letters_are_figures(screen) -> None:
    boxes, _ = propose(screen, [])
    inside = shares(boxes, np.array([TEXT], np.float32))[:, 0] > 0.9
    assert inside.sum() >= 5


def test_what_is_on_a_screen_once_is_proposed_once(screen) -> None:
    boxes, _ = propose(screen, [TEXT])
    assert (np.triu(box_iou(boxes, boxes), 1) <= 0.85).all()


def test_lines_are_kept_and_the_rest_is_bounded() -> None:
    rng = np.random.default_rng(0)
    noise = np.kron(rng.integers(0, 256, (60, 90, 3)), np.ones((10, 10, 1))).astype(np.uint8)
    lines = [Box(y, 10, y + 4, 60) for y in range(0, 500, 5)]
    boxes, kinds = propose(noise, lines)
    assert len(boxes) == len(lines) + MOST
    assert (kinds[: len(lines)] == 0).all()
    assert not (kinds[len(lines) :] == 0).any()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_any_screen_has_boxes_within_it(height: int, width: int, blank: bool) -> None:
    rng = np.random.default_rng(height)
    image = np.zeros((height, width, 3), np.uint8) if blank else rng.integers(0, 256, (height, width, 3), np.uint8)
    boxes, kinds = propose(image, [])
    assert boxes.dtype == np.float32
    assert boxes.shape == (len(kinds), 4)
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert ((boxes >= 0) & (boxes <= np.array([height, width] * 2) + 1)).all()
    assert views(image, boxes, 16).shape == (len(boxes), VIEWS, 16, 16, 3)


def test_views_show_a_proposal_and_what_is_around(screen) -> None:
    [[alone, around, *_]] = views(screen, np.array([BUTTON], np.float32), 32)
    blue = [(view[..., 0] < 100).mean() for view in (alone, around)]
    assert blue[0] > 2 * blue[1] > 0.1
    corner = np.array([[0, 0, 4, 4]], np.float32)
    assert (views(screen, corner, 8)[:, :4] == 250).all()  # the screen goes on beyond its edges


def test_views_show_both_ends_in_true_proportions() -> None:
    image = np.full((60, 400, 3), 255, np.uint8)
    image[24:32, 24:32] = image[24:32, 364:372, :2] = 0  # a black square in the left end, a blue one in the right
    [[_, _, start, end, *_]] = views(image, np.array([[20, 20, 36, 376]], np.float32), 32)
    for view, channel in ((start, 2), (end, 0)):
        rows, columns = np.nonzero(view[..., channel] < 128)
        assert abs(np.ptp(rows) - np.ptp(columns)) < 2 < np.ptp(rows)
    assert (start[..., 2] < 128).any()
    assert not (end[..., 2] < 128).any()
    views(image, np.array([[20, -300, 36, 50], [20, 350, 36, 700]], np.float32), 32)  # cut by edges of the screen


def test_a_line_has_what_is_small_and_next_to_it_in_its_row() -> None:
    line, icon, arrow, far = [20, 40, 34, 100], [20, 16, 36, 32], [22, 200, 32, 208], [20, 230, 34, 240]
    wide, below = [20, 300, 34, 700], [60, 110, 70, 118]
    boxes = np.array([line, icon, arrow, far, wide, below], np.float32)
    assert neighbours(boxes)[0].tolist() == [1, 2]
    assert neighbours(boxes)[3].tolist() == [2, -1]  # on its right is what is not small
    assert neighbours(boxes[[0, 1, 4, 5]])[0].tolist() == [1, -1]  # nor near
    assert neighbours(boxes[:0]).shape == (0, 2)
    image = np.full((80, 760, 3), 255, np.uint8)
    image[22:32, 200:208] = 90
    [[*_, before, after], *_] = views(image, boxes[[0, 2, 5]], 32)
    assert (before == 0).all()  # nothing is there
    rows, columns = np.nonzero(after[..., 0] < 200)
    assert np.ptp(rows) > np.ptp(columns) > 10


def test_proposals_belong_to_the_smallest_element_of_each_role() -> None:
    elements = [Object("", Box(0, 0, 90, 90), role="link"), Object("", Box(0, 0, 30, 30), role="link")]
    elements += [Object("", Box(4, 4, 20, 20), role="icon")]
    boxes = np.array([[5, 5, 19, 19], [50, 50, 60, 60], [0, 0, 89, 89], [200, 0, 210, 9]], np.float32)
    which, true = mark_elements(elements, ROLES, boxes)
    assert which.shape == (4, len(ROLES))
    link, icon = ROLES.index("link"), ROLES.index("icon")
    assert which[:, link].tolist() == [2, 1, 1, 0]
    assert which[:, icon].tolist() == [3, 0, 0, 0]
    assert true.tolist() == [list(thing.box) for thing in elements]


def example(screen: Image, *objects: Object) -> Example:
    return Example("a", [screen], lines=[Line([Word("Save", TEXT)])], objects=objects)


def test_windows_become_batches_whose_numbers_name_their_elements(screen) -> None:
    encoder, rng = ElementEncoder(16), np.random.default_rng(0)
    some = [Object("Save", BUTTON, role="button"), Object("", FIELD, role="textbox")]
    windows = [example(screen, *some), example(screen), example(screen, some[0])]
    samples = [encoder.encode(each, None, None, rng) for each in windows]  # type: ignore[arg-type]
    batch = encoder.collate(samples)
    counts = batch["counts"].tolist()
    assert batch["views"].shape == (sum(counts), VIEWS, 16, 16, 3)
    assert batch["boxes"].shape == (sum(counts), 4)
    assert batch["elements"].shape == (3, 4)
    for part, sample in zip(batch["which"].split(counts), samples, strict=True):
        own = batch["elements"][part[part > 0] - 1]
        assert len(own.unique(dim=0)) == len(sample["elements"])
    buttons = batch["which"][:, ROLES.index("button")]
    marked = batch["boxes"][buttons == 3]
    assert (box_iou(marked.numpy(), batch["elements"][2:].numpy()) > 0.02).all()


def test_a_blank_screen_is_refused() -> None:
    blank = Example("a", [np.zeros((40, 40, 3), np.uint8)], lines=[Line([Word("x", Box(0, 0, 3, 3))])])
    encoder = ElementEncoder(16)
    drops = next(seed for seed in range(999) if np.random.default_rng(seed).random() < 0.02)  # the only line
    with pytest.raises(ValueError, match="nothing"):
        encoder.encode(blank, None, None, np.random.default_rng(drops))  # type: ignore[arg-type]


def test_a_heading_is_where_its_words_are(screen) -> None:
    [heading] = elements_of(example(screen, Object("Save", Box(0, 0, 60, 230), role="heading")))
    assert heading.box == TEXT


@pytest.mark.parametrize("layout", [Box(20, 140, 50, 200), Box(23.4, 149.6, 46.2, 172.3), Box(24, 150, 80, 172)])
def test_an_icon_is_where_it_is_drawn(screen, layout) -> None:
    [icon] = elements_of(example(screen, Object("search", layout, role="icon")))
    assert icon.box == ICON


def test_a_letter_that_reaches_into_the_box_of_an_icon_is_not_its(screen) -> None:
    screen[26:44, 199:204] = 0
    [icon] = elements_of(example(screen, Object("search", Box(20, 140, 50, 200), role="icon")))
    assert icon.box == ICON


@pytest.mark.parametrize("brightness", [200, 25])
def test_an_icon_at_the_corner_of_a_screen_is_where_it_is_drawn(brightness) -> None:
    image = np.zeros((30, 30, 3), np.uint8)
    image[0:9, 0:7] = brightness
    [icon] = elements_of(example(image, Object("menu", Box(-3, 0, 20, 18), role="icon")))
    assert icon.box == Box(0, 0, 9, 7)


@pytest.mark.parametrize("layout", [Box(60, 200, 76, 220), Box(0, 0, 140, 240)])
def test_an_icon_that_is_not_seen_keeps_its_box(screen, layout) -> None:
    [icon] = elements_of(example(screen, Object("search", layout, role="icon")))
    assert icon.box == layout
