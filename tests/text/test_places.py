"""Boxes and outlines as location tokens behind names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openpali.text.places import NamedFirst, Outlines

CODEC = NamedFirst(joiner="")
SIZE = st.tuples(st.integers(1, 4000), st.integers(1, 4000))
WORDS = st.sampled_from(["dog", "a red dog", "boeing 747", "<sep>", "<loc", "loc_5", "<"])
ANSWER = st.lists(
    st.one_of(WORDS, st.text(max_size=3), st.integers(0, 1100).map(lambda n: f"<loc_{n}>")), max_size=20
).map("".join)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[tuple[float, ...], tuple[int, int]]:
    """A box of at least two bins per side, and the size of its image."""
    size = draw(SIZE)
    edges = [sorted(draw(st.lists(st.floats(0, 1), min_size=2, max_size=2))) for _ in size]
    (top, bottom), (left, right) = ((low, max(high, low + 2e-3)) for low, high in edges)
    return (top * size[0], left * size[1], bottom * size[0], right * size[1]), size


@given(boxes(), st.sampled_from(["dog", "boeing 747", "a <b> c"]))
def test_what_is_written_is_read_back_within_half_a_bin(given_box, name: str) -> None:
    box, size = given_box
    try:
        text = CODEC.encode_named([(box, name), (box, "it")], size)
    except ValueError:
        return  # at the edge, where both sides have the last bin
    (found, first), (_, second) = CODEC.decode_named(text, size, strict=True)
    assert (first, second) == (name, "it")
    for edge, read, side in zip(box, found, (*size, *size), strict=True):
        assert abs(min(edge, side) - read) <= side / 2000 * 1.001
    assert CODEC.decode_named(CODEC.encode_named([(found, name)], size), size) == [(found, name)]  # of centres


def test_x_stands_before_y_and_numbers_have_no_zeros() -> None:
    text = CODEC.encode_named([((30.0, 5.0, 60.0, 100.0), "dog"), ((0, 0, 100, 200), "cat")], (100, 200))
    assert text == "dog<loc_25><loc_300><loc_500><loc_600>cat<loc_0><loc_0><loc_999><loc_999>"
    assert CODEC.decode_named("dog<loc_0><loc_500><loc_1><loc_999>", (100, 200)) == [
        ((50.05, 0.1, 99.95, 0.3), "dog")
    ]


def test_a_name_may_have_several_boxes_and_the_first_ones_none() -> None:
    one, two = "<loc_1><loc_2><loc_3><loc_4>", "<loc_5><loc_6><loc_7><loc_8>"
    found = CODEC.find_named(f"{one}red dog{one}{two}cat<loc_9> dog{two}", (1000, 1000))
    assert [(name, box[1]) for box, name, _ in found] == [
        ("", 1.5),
        ("red dog", 1.5),
        ("red dog", 5.5),
        ("dog", 5.5),
    ]
    assert [(words.start, words.stop) for *_, words in found] == [(0, 4), (4, 10), (10, 14), (16, 21)]
    for text in (
        f"cat<loc_9> dog{two}",
        f"{one}cat",
        "cat",
        "dog<loc_3><loc_1><loc_2><loc_4>",
        f"dog<loc_1000>{one[7:]}",
    ):
        with pytest.raises(ValueError, match="word"):
            CODEC.decode_named(text, (1000, 1000), strict=True)


@given(ANSWER, SIZE, st.sampled_from([2, 4]))
def test_any_answer_can_be_read(text: str, size: tuple[int, int], corners: int) -> None:
    codec = NamedFirst(joiner="", corners=corners)
    words, before = codec.words(text), 0
    for (top, left, bottom, right), name, place in codec.find_named(text, size):
        assert 0 < top < bottom < size[0]
        assert 0 < left < right < size[1]
        assert before <= place.start < place.stop <= len(words)
        own = words[place.start : place.stop]
        assert own[: -2 * corners] in (name.split(), [])
        before = place.stop
    for polygons, (start, stop) in Outlines().find(text, size):
        assert 0 <= start < stop <= len(text)
        for corners_N2 in polygons:
            assert len(corners_N2) >= 3
            assert (corners_N2 > 0).all()
            assert (corners_N2 < (size[1], size[0])).all()


def test_a_quadrilateral_is_the_box_around_it() -> None:
    codec = NamedFirst(corners=4)
    quad = "".join(f"<loc_{n}>" for n in (10, 20, 30, 10, 40, 50, 15, 60))
    assert codec.decode_named(f"STOP{quad}GO{quad}", (1000, 1000)) == [
        ((10.5, 10.5, 60.5, 40.5), "STOP"),
        ((10.5, 10.5, 60.5, 40.5), "GO"),
    ]


@given(
    st.lists(
        st.lists(st.lists(st.tuples(*[st.integers(0, 999)] * 2), min_size=3, max_size=6), min_size=1, max_size=3),
        min_size=1,
        max_size=3,
    ),
    SIZE,
)
def test_outlines_are_read_back(bins: list[list[list[tuple[int, int]]]], size: tuple[int, int]) -> None:
    objects = [[(np.array(ring) + 0.5) / 1000 * size[::-1] for ring in rings] for rings in bins]
    found = Outlines().find(Outlines().encode(objects, size), size)
    for (rings, _), true in zip(found, objects, strict=True):
        for ring, corners in zip(rings, true, strict=True):
            np.testing.assert_allclose(ring, corners)


def test_half_a_corner_and_lines_are_no_outlines() -> None:
    [(polygons, place)] = Outlines().find(
        "x<loc_1><loc_2><loc_3><loc_4><loc_5><loc_6><loc_7><sep><loc_1><loc_2>", (9, 9)
    )
    assert [len(ring) for ring in polygons] == [3]
    assert place == (0, 69)
    assert Outlines().find("<loc_1><loc_2><loc_3><loc_4>", (9, 9)) == []
