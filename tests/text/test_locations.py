import contextlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from openpali.text.locations import LocationCodec

SIZES = st.tuples(st.integers(1, 5000), st.integers(1, 5000))
CODECS = st.builds(LocationCodec, st.integers(2, 10_000), st.sampled_from(["text", "token"]))


def test_boxes_are_written_as_in_the_paper() -> None:
    box, size = (348, 543, 684, 664), (999, 999)
    assert LocationCodec().encode(box, size) == "348 543 684 664"
    assert LocationCodec(style="token").encode(box, size) == "<loc0348><loc0543><loc0684><loc0664>"
    assert (
        LocationCodec(1024, "token").encode((0, 0, 480, 640), (480, 640)) == "<loc0000><loc0000><loc1023><loc1023>"
    )


def test_order_is_y_x_and_each_is_scaled_by_its_side() -> None:
    codec = LocationCodec(bins=101)
    assert codec.encode((10, 100, 50, 400), (100, 400)) == "10 25 50 100"
    assert codec.decode("10 25 50 100", (100, 400)) == pytest.approx((10, 100, 50, 400))


@given(CODECS, SIZES, st.tuples(*[st.floats(0, 1)] * 4))
def test_a_box_round_trips_to_half_a_bin(codec: LocationCodec, size, shares) -> None:
    sides = (*size, *size)
    box = tuple(share * side for share, side in zip(shares, sides, strict=True))
    try:
        text = codec.encode(box, size)
    except ValueError:
        thin = 1 / (codec.bins - 1)
        assert shares[2] - shares[0] <= thin * 1.001 or shares[3] - shares[1] <= thin * 1.001
        return
    for there, back, side in zip(box, codec.decode(text, size), sides, strict=True):
        assert abs(there - back) <= 0.5 * side / (codec.bins - 1) + 1e-9 * side


@given(CODECS, SIZES, st.data())
def test_bins_round_trip_exactly(codec: LocationCodec, size, data: st.DataObject) -> None:
    ymin, xmin = (data.draw(st.integers(0, codec.bins - 2)) for _ in range(2))
    ymax, xmax = (data.draw(st.integers(low + 1, codec.bins - 1)) for low in (ymin, xmin))
    bins = (ymin, xmin, ymax, xmax)
    text = " ".join(map(str, bins)) if codec.style == "text" else "".join(f"<loc{b:04d}>" for b in bins)
    assert codec.encode(codec.decode(text, size), size) == text


def test_boxes_are_clipped_to_the_image() -> None:
    assert LocationCodec(101).encode((-30, -1, 150, 101), (100, 100)) == "0 0 100 100"


def test_a_box_outside_is_not_made_one_inside() -> None:
    codec, size = LocationCodec(48), (480, 640)
    for outside in ((10, -90, 60, -40), (500, 0, 600, 9)):
        with pytest.raises(ValueError, match="is empty"):
            codec.encode(codec.widened(outside, size), size)
    assert codec.encode(codec.widened((-5, 100, 2, 200), size), size).startswith("0 7 1 ")


@pytest.mark.parametrize(
    "box",
    [
        (5, 5, 5, 9),
        (5, 9, 9, 5),
        (5, 5, 5.1, 9),
        (-9, 0, -1, 9),
        (float("nan"), 0, 1, 1),
        (0, 0, float("inf"), 1),
        (0,),
    ],
)
def test_invalid_boxes_are_refused(box) -> None:
    with pytest.raises(ValueError, match="box"):
        LocationCodec().encode(box, (1000, 1000))


@pytest.mark.parametrize(
    "text", ["", "1 2 3", "1 2 3 4 5", "1 2 3 x", "1 2 3 1000", "5 5 5 9", "9 5 5 9", "-1 2 3 4"]
)
def test_texts_that_are_not_a_box_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        LocationCodec().decode(text, (100, 100))


@pytest.mark.parametrize(("bins", "style"), [(1, "text"), (10_001, "text"), (1000, "words")])
def test_options_are_checked(bins: int, style) -> None:
    with pytest.raises(ValueError):
        LocationCodec(bins, style)


NAMES = st.lists(st.from_regex(r"[a-zé]+|[0-9]{1,3}", fullmatch=True), min_size=1, max_size=4).map(" ".join)
BOXES = st.tuples(st.floats(0, 200), st.floats(0, 200), st.floats(300, 500), st.floats(300, 500))


@given(CODECS, st.lists(st.tuples(BOXES, NAMES), max_size=4))
def test_detections_round_trip(codec: LocationCodec, boxes) -> None:
    size = (500, 500)
    try:
        text = codec.encode_named(boxes, size)
    except ValueError as error:
        assume(codec.bins > 5 and "name" not in str(error))
        raise
    found = codec.decode_named(text, size, strict=True)
    assert found == codec.decode_named(text, size)
    assert [name for _, name in found] == [name for _, name in boxes]
    assert [box for box, _ in found] == [codec.decode(codec.encode(box, size), size) for box, _ in boxes]


def test_names_may_hold_numbers_but_not_coordinates() -> None:
    codec = LocationCodec(100)
    box = (0, 0, 99, 99)
    assert [n for _, n in codec.decode_named("1 2 3 4 boeing 747 5 6 7 8 size 8 shoe", (9, 9))] == [
        "boeing 747",
        "size 8 shoe",
    ]
    for name in ("", " ", "7 up", "a 1 2 3 4", "a 1 2 3 4 b"):
        with pytest.raises(ValueError):
            codec.encode_named([(box, name)], (99, 99))
    assert LocationCodec(100, "token").encode_named([(box, "7 up")], (99, 99)).endswith(" 7 up")


WORDS = ["0", "1", "50", "99", "9999999", "x", "<loc0001>", "<loc0009>"]


@given(CODECS, st.text() | st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_the_lenient_parser_takes_any_text(codec: LocationCodec, text: str) -> None:
    size = (10, 20)
    lenient = codec.decode_named(text, size)
    for (ymin, xmin, ymax, xmax), name in lenient:
        assert 0 <= ymin < ymax <= 10
        assert 0 <= xmin < xmax <= 20
        assert name
    with contextlib.suppress(ValueError):
        assert codec.decode_named(text, size, strict=True) == lenient


def test_the_strict_parser_takes_what_is_well_formed() -> None:
    text = "1 2 3 4 dog 5 6 7 8 red horse"
    codec = LocationCodec(100)
    assert codec.decode_named(text, (99, 99), strict=True) == codec.decode_named(text, (99, 99))


def test_the_lenient_parser_keeps_well_formed_parts() -> None:
    codec = LocationCodec(100)
    text = "so: 1 2 3 4 dog 9 9 9 9 empty 1 2 300 4 beyond 5 6 7 8 red horse 5 6 7 8"
    assert [name for _, name in codec.decode_named(text, (99, 99))] == ["dog", "red horse"]


@pytest.mark.parametrize("rest", ["", " ;", " ; <loc0005>", " ; <loc0005><loc0006><loc0007>", "<loc0005>"])
def test_a_box_that_was_cut_off_is_no_part_of_a_name(rest: str) -> None:
    codec = LocationCodec(1024, "token", " ; ")
    text = f"<loc0001><loc0002><loc0003><loc0004> cat{rest}"
    assert [name for _, name in codec.decode_named(text, (99, 99))] == ["cat"]
    if "loc" in rest:
        with pytest.raises(ValueError, match="four coordinates"):
            codec.decode_named(text, (99, 99), strict=True)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("a 1 2 3 4 dog", "word 1 "),
        ("1 2 3 4 dog 5 6 7 8", "word 9"),
        ("1 2 3 4 dog 9 9 9 9 cat", "word 6"),
        ("1 2 3 100 dog", "word 4 "),
        ("1 2 3 dog", "word 1 "),
    ],
)
def test_the_strict_parser_names_the_position(text: str, position: str) -> None:
    with pytest.raises(ValueError, match=position):
        LocationCodec(100).decode_named(text, (99, 99), strict=True)
