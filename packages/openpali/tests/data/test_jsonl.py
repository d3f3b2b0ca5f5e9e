"""Records and JSONL: every field arrives, every mistake is named, masks are COCO's."""

from __future__ import annotations

import json
import pickle
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from openpali.data.sources.jsonl import JsonlSource
from openpali.data.sources.mask_formats import decompress_counts, read_polygons, read_run_lengths
from openpali.data.sources.records import RecordError, parse_record
from openpali.tasks.example import Box, Size, tight_box
from openpali.tasks.registry import get_task, tasks_of


def write(folder: Path, *records: Any) -> Path:
    path = folder / "train.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records) + "\n", "utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    pixels = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    Image.fromarray(pixels).save(tmp_path / "images/a.png")
    Image.fromarray(pixels[::-1]).save(tmp_path / "images/b.png")
    return tmp_path


def test_every_field_arrives(folder: Path) -> None:
    mask = Image.new("1", (8, 6))
    mask.paste(1, (2, 1, 5, 4))
    mask.save(folder / "mask.png")
    record = {
        "key": "k1",
        "images": ["images/a.png", "images/b.png"],
        "captions": {"en": ["a cat", "one cat"], "ja": "猫"},
        "question": "how many?",
        "answers": "one",
        "question_kind": "count",
        "objects": [{"name": "cat", "box": [1, 2, 4, 5.5]}, {"name": "dog", "mask": "mask.png"}],
        "expression": "the dog",
        "referred": [1],
        "text": "über\nall",
        "label": "animal",
        "lang": "de",
        "vocabulary": ["cat", "dog"],
    }
    example = JsonlSource(write(folder, record))[0]
    assert example.key == "k1"
    assert [image[0, 0].tolist() for image in example.images] == [[0, 1, 2], [120, 121, 122]]
    assert example.captions == {"en": ("a cat", "one cat"), "ja": ("猫",)}
    assert (example.question, example.answers, example.question_kind) == ("how many?", ("one",), "count")
    assert example.objects[0].box == Box(1, 2, 4, 5.5)
    assert example.objects[0].mask is None
    assert example.objects[1].box == Box(1, 2, 4, 5)  # around the mask
    assert example.objects[1].mask is not None
    assert example.objects[1].mask.sum() == 9
    assert (example.expression, example.referred) == ("the dog", (1,))
    assert (example.text, example.label, example.lang) == ("über\nall", "animal", "de")
    assert example.vocabulary == ("cat", "dog")


def test_texts_are_composed_and_names_of_files_are_not(folder: Path) -> None:
    apart = unicodedata.normalize("NFD", "café")
    texts = {"question": apart, "answers": [apart], "expression": apart, "text": apart, "vocabulary": [apart]}
    thing = {"name": apart, "box": [0, 0, 2, 2]}
    record = {**texts, "label": apart, "captions": {"fr": apart}, "objects": [thing], "images": f"{apart}.png"}
    (folder / "images/a.png").rename(folder / f"{apart}.png")
    source = JsonlSource(write(folder, record, {"label": "café"}))
    example = source[0]
    assert source.labels == ["café"]
    assert (example.question, example.expression, example.text, example.label) == ("café",) * 4
    assert (*example.answers, *example.vocabulary, *example.captions["fr"]) == ("café",) * 3
    assert [thing.name for thing in example.objects] == ["café"]


def test_texts_that_say_nothing_are_none() -> None:
    record = parse_record('{"question": "what?", "answers": ["", "two"], "caption": " ", "lang": ""}', "a")
    example = record.example(lambda name: b"", "a")
    assert (tasks_of(example), example.lang) == (["vqa"], "en")
    assert get_task("vqa").write(example, np.random.default_rng(0)).references == ("two",)
    with pytest.raises(ValueError, match="has no captions"):
        get_task("caption").write(example, np.random.default_rng(0))


def test_caption_is_short_for_captions_in_lang(folder: Path) -> None:
    example = JsonlSource(write(folder, {"caption": "eine Katze", "captions": {"en": "a cat"}, "lang": "de"}))[0]
    assert example.captions == {"en": ("a cat",), "de": ("eine Katze",)}
    assert example.images == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"imges": []}', "t:3: unknown field imges; did you mean 'images'"),
        ('{"objects": [{"name": "a", "bbox": [1, 2, 3, 4], "mask": "m"}]}', "objects.0.bbox; did you mean 'box'"),
        ("[1]", "t:3: the record must be an object"),
        ('{"a":', "t:3: the record: Invalid JSON"),
        ('{"question": 3}', "question = 3"),
        ('{"answers": ["a", 3]}', "answers.1 = 3"),
        ('{"objects": [{"name": "a", "box": [1, 2, 3]}]}', "objects.0.box: a box is four numbers"),
        ('{"objects": [{"name": "a", "box": [1, 2, "x", 4]}]}', 'objects.0.box.2 = "x"'),
        ('{"objects": [{"name": "a", "box": [1, 2, NaN, 4]}]}', "objects.0.box: .*ymin < ymax"),
        ('{"objects": [{"name": "a", "box": [3, 2, 1, 4]}]}', "objects.0.box: .*ymin < ymax"),
        ('{"objects": [{"name": "a"}]}', "objects.0: an object needs a box"),
        ('{"objects": [{"name": "", "mask": "m"}]}', "objects.0.name"),
        ('{"objects": [{"name": "a", "mask": [[1, 2]]}]}', "objects.0.mask: a polygon needs at least three"),
        ('{"objects": [{"name": "a", "mask": [[1, 2, 3, 4, 1e308, -1e308]]}]}', "objects.0.mask: a polygon needs"),
        (f'{{"objects": [{{"name": "a", "mask": [[1, 2, 3, 4, 5, 1{"0" * 400}]]}}]}}', "objects.0.mask: a polygon"),
        ('{"objects": [{"name": "a", "mask": 7}]}', "objects.0.mask: a mask is"),
        ('{"objects": [{"name": "a", "mask": {"size": [2, 2], "counts": [3]}}]}', "objects.0.mask: .*add up"),
        (
            '{"objects": [{"name": "a", "mask": {"size": [2, 2], "counts": [3, -1, 2]}}]}',
            "objects.0.mask: .*add up",
        ),
        (
            '{"objects": [{"name": "a", "mask": {"size": [2, 2], "counts": "o"}}]}',
            "objects.0.mask: .*within a number",
        ),
        ('{"referred": [0]}', "referred is 0, but there are 0 objects"),
        ('{"caption": "a", "captions": {"en": "b"}}', "caption and captions.en"),
        ('{"answers": "a", "answers": "b"}', "t:3: answers is given twice"),
        ('{"objects": [{"name": "a", "box": [0, 0, 1, 1], "name": "b"}]}', "t:3: name is given twice"),
    ],
)
def test_errors_name_line_field_and_fix(line: str, expected: str) -> None:
    with pytest.raises(RecordError, match=expected) as caught:
        parse_record(line, "t:3")
    again = pickle.loads(pickle.dumps(caught.value))  # errors travel from worker to trainer
    assert str(again) == str(caught.value)


def test_objects_need_an_image_of_their_size(folder: Path) -> None:
    Image.new("L", (3, 3), 255).save(folder / "mask.png")
    small = {"name": "a", "mask": {"size": [2, 2], "counts": [0, 4]}}
    source = JsonlSource(
        write(
            folder,
            {"objects": [small]},
            {"images": "images/a.png", "objects": [small]},
            {"images": "images/a.png", "objects": [{"name": "a", "mask": "mask.png"}]},
            {"images": "images/a.png", "objects": [{"name": "a", "mask": [[90, 90, 99, 90, 90, 99]]}]},
        )
    )
    for index, problem in enumerate(["no image", "2 high and 2 wide", "3 x 3, but the image is 6 x 8", "empty"]):
        with pytest.raises(RecordError, match=f"train.jsonl:{index + 1}: objects.*{problem}"):
            source[index]


def test_missing_and_damaged_images_are_named(folder: Path) -> None:
    (folder / "bad.png").write_bytes(b"no image")
    url = "https://example.org/a.png"
    source = JsonlSource(
        write(folder, {"images": "gone.png"}, {"images": "bad.png"}, {"images": url}, {"images": "images"})
    )
    for index, kind, named in (
        (0, FileNotFoundError, "train.jsonl:1: .*gone.png"),
        (1, ValueError, "train.jsonl:2: bad.png"),
        (2, ValueError, f"train.jsonl:3: {url} is a URL: download the file"),
        (3, OSError, "train.jsonl:4: .*images"),
    ):
        with pytest.raises(kind, match=named):
            source[index]


@given(
    blank=st.lists(st.booleans(), min_size=1, max_size=30), end=st.sampled_from(["\n", "\r\n"]), bom=st.booleans()
)
@settings(max_examples=25, deadline=None)
def test_lines_are_found_with_any_line_ends_and_blanks(
    blank: list[bool], end: str, bom: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("lines") / "x.jsonl"
    lines = [
        "  " if b else json.dumps({"label": f"é{i}", "text": "a\u2028b"}, ensure_ascii=False)
        for i, b in enumerate(blank)
    ]
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + end.join(lines).encode())  # the last line has no end
    kept = [i for i, b in enumerate(blank) if not b]
    if not kept:
        with pytest.raises(ValueError):
            JsonlSource(path)
        return
    source = JsonlSource(path)
    assert len(source) == len(kept)
    for index in reversed(range(len(kept))):  # any order
        assert source[index].label == f"é{kept[index]}"
        assert source.where(index) == f"x.jsonl:{kept[index] + 1}"
    with pytest.raises(IndexError):
        source[len(kept)]
    assert pickle.loads(pickle.dumps(source))[0] == source[0]


def test_labels_are_the_distinct_values(folder: Path) -> None:
    source = JsonlSource(write(folder, {"label": "b"}, {"text": "x"}, "{", {"label": "a"}, {"label": "b"}))
    assert source.labels == ["a", "b"]


# ---- masks against pycocotools


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.05, 0.5, 1.0]))
@settings(max_examples=60, deadline=None)
def test_run_lengths_agree_with_pycocotools(height: int, width: int, seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    compressed = packed["counts"].decode()
    shape = read_run_lengths({"size": [height, width], "counts": compressed})
    np.testing.assert_array_equal(shape.draw(Size(height, width)), mask)
    plain = read_run_lengths({"size": [height, width], "counts": decompress_counts(compressed)})
    np.testing.assert_array_equal(plain.draw(Size(height, width)), mask)


def test_long_runs_and_negative_differences_are_decompressed() -> None:
    mask = np.zeros((700, 900), bool)
    mask[3:690, 100:800] = True
    mask[10, 10] = True
    packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    shape = read_run_lengths({"size": [700, 900], "counts": packed["counts"].decode()})
    np.testing.assert_array_equal(shape.draw(Size(700, 900)), mask)


def test_polygons_cover_the_pixels_whose_centre_is_inside() -> None:
    size = Size(10, 12)
    box = read_polygons([2, 1, 7, 1, 7, 5, 2, 5]).draw(size)  # x, y as in COCO
    expected = np.zeros(size, bool)
    expected[1:5, 2:7] = True
    np.testing.assert_array_equal(box, expected)
    np.testing.assert_array_equal(read_polygons([[2, 1], [7, 1], [7, 5], [2, 5]]).draw(size), expected)
    two = read_polygons([[2, 1, 7, 1, 7, 5, 2, 5], [-5, -5, 1, -5, 1, 1, -5, 1]]).draw(size)
    expected[0, 0] = True  # the second reaches out of the image
    np.testing.assert_array_equal(two, expected)


@given(st.lists(st.tuples(st.floats(-5, 45), st.floats(-5, 35)), min_size=3, max_size=8))
@settings(max_examples=60, deadline=None)
def test_polygons_agree_with_the_even_odd_rule(corners: list[tuple[float, float]]) -> None:
    """Each pixel by itself: a ray to the left crosses an odd number of edges."""
    mask = read_polygons([list(c) for c in corners]).draw(Size(30, 40))
    for row in range(0, 30, 3):
        for column in range(0, 40, 3):
            y, x, inside = row + 0.5, column + 0.5, False
            nearest = np.inf
            for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
                if (ay > y) != (by > y):
                    at = ax + (y - ay) * (bx - ax) / (by - ay)
                    nearest = min(nearest, abs(at - x))
                    inside ^= at < x
            assert mask[row, column] == inside or nearest < 1e-6


def test_polygons_are_close_to_pycocotools() -> None:
    """COCO rounds corners differently, but a round thing covers nearly the same pixels."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    corners = np.stack([50 + 30 * np.cos(angles), 40 + 20 * np.sin(angles)], axis=1).ravel().tolist()
    ours = read_polygons(corners).draw(Size(80, 100))
    theirs = coco.decode(coco.merge(coco.frPyObjects([corners], 80, 100))).astype(bool)
    assert (ours & theirs).sum() / (ours | theirs).sum() > 0.97
    assert tight_box(ours) == Box(20, 20, 60, 80)


# ---- by name
