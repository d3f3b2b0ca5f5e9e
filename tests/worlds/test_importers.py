"""Importers, each on a fixture in its owners' layout: what is kept is right, and what is not is counted."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from openpali.data.importers.base import Imported
from openpali.data.importers.registry import IMPORTERS, import_data
from openpali.data.sources.files import relative_to
from openpali.data.sources.jsonl import JsonlSource
from openpali.data.sources.mask_formats import RunLengths, read_polygons
from openpali.rng import generator
from openpali.tasks.example import Box, Example, Size
from openpali.tasks.registry import get_task

coco_masks = pytest.importorskip("pycocotools.mask")


def image(path: Path, width: int = 64, height: int = 48, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (90, 90, 90)).save(path, **options)
    return path


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def run(format: str, path: Path, **options: Any) -> tuple[Imported, list[Example]]:
    """Import to a folder that is not the data's, and read the samples as training would."""
    base = path if path.is_dir() else path.parent
    out = base.parent / "out" / "mine.jsonl"
    found = import_data(format, path, out, **options)
    source = JsonlSource(out)
    return found, [source[i] for i in range(len(source))]


def records(found: Imported) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(found.out).read_text("utf-8").splitlines()]


# ---- COCO


def coco(root: Path, annotations: list[dict[str, Any]], images: list[dict[str, Any]] | None = None) -> Path:
    images = images or [{"id": 139, "file_name": "000000000139.jpg", "width": 64, "height": 48}]
    categories = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog", "supercategory": "animal"}]
    whole = {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}
    return write(root / "annotations" / "instances_train2017.json", whole)


def test_coco_instances(tmp_path: Path) -> None:
    image(tmp_path / "coco/train2017/000000000139.jpg")
    image(tmp_path / "coco/train2017/000000000200.jpg")
    polygon = [[10, 10, 30, 10, 30, 20, 10, 20]]
    mask = np.zeros((48, 64), np.uint8, order="F")
    mask[5:9, 40:50] = 1
    packed = coco_masks.encode(mask)
    rle = {"size": packed["size"], "counts": packed["counts"].decode()}
    path = coco(
        tmp_path / "coco",
        [
            {"id": 1, "image_id": 139, "category_id": 1, "bbox": [10, 10, 20, 10], "segmentation": polygon},
            {
                "id": 2,
                "image_id": 139,
                "category_id": 18,
                "bbox": [40, 5, 10, 4],
                "segmentation": rle,
                "iscrowd": 0,
            },
            {"id": 3, "image_id": 139, "category_id": 18, "bbox": [60, 40, 10, 10]},
            {"id": 4, "image_id": 139, "category_id": 1, "bbox": [0, 0, 9, 9], "segmentation": rle, "iscrowd": 1},
            {"id": 5, "image_id": 139, "category_id": 7, "bbox": [0, 0, 9, 9]},
            {"id": 6, "image_id": 139, "category_id": 1, "bbox": [5, 5, 0, 9]},
            {"id": 7, "image_id": 139, "category_id": 1, "bbox": [70, 5, 4, 9]},
            {"id": 8, "image_id": 139, "category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": [[1, 2, 3, 4]]},
            {"id": 9, "image_id": 400, "category_id": 1, "bbox": [1, 2, 3, 4]},
            {"id": 10, "image_id": 139, "category_id": 1, "bbox": "1 2 3 4"},
        ],
        [
            {"id": 139, "file_name": "000000000139.jpg", "width": 64, "height": 48},
            {"id": 200, "file_name": "000000000200.jpg", "width": 64, "height": 48},
            {"id": 201, "file_name": "gone.jpg", "width": 64, "height": 48},
        ],
    )
    found, [example] = run("coco", path)
    assert (found.samples, found.images, found.objects) == (1, 1, 4)
    assert records(found)[0]["images"] == "../train2017/000000000139.jpg"
    assert [thing.name for thing in example.objects] == ["person", "dog", "dog", "person"]
    assert [thing.box for thing in example.objects] == [
        (10, 10, 20, 30),
        (5, 40, 9, 50),
        (40, 60, 48, 64),
        (2, 1, 6, 4),
    ]
    assert example.objects[0].mask.sum() == 200
    assert np.array_equal(example.objects[1].mask, mask.astype(bool))
    assert found.problems == {
        "crowd region": 1,
        "unknown category": 1,
        "empty box": 1,
        "box outside the image": 1,
        "damaged mask, box kept": 1,
        "damaged entry": 1,
        "image without usable objects": 1,
        "no image file": 1,
        "annotation of an unlisted image": 1,
    }
    assert found.changed == {"boxes clipped to the image": 1}
    assert "annotations[3]" in found.messages["crowd region"][0]
    assert "gone.jpg in " in found.messages["no image file"][0]


def test_a_category_of_coco_that_is_listed_twice_keeps_its_first_name(tmp_path: Path) -> None:
    image(tmp_path / "coco/images/a.jpg")
    path = coco(
        tmp_path / "coco",
        [{"image_id": 1, "category_id": 18, "bbox": [1, 2, 9, 9]}],
        [{"id": 1, "file_name": "a.jpg"}],
    )
    whole = json.loads(path.read_text("utf-8"))
    whole["categories"] += [{"id": 18, "name": "cat"}, {"id": 1, "name": "person"}]
    found, [example] = run("coco", write(path, whole))
    assert [thing.name for thing in example.objects] == ["dog"]
    assert found.problems == {"category with two names": 1}


def test_coco_captions(tmp_path: Path) -> None:
    image(tmp_path / "coco/images/a.jpg")
    captions = [{"id": i, "image_id": 1, "caption": f"A dog {i}. "} for i in range(2)]
    pictures = [{"id": 1, "file_name": "a.jpg"}]
    path = coco(tmp_path / "coco", captions, pictures)
    found, [example] = run("coco", path)
    assert example.captions == {"en": ("A dog 0.", "A dog 1.")}
    assert found.ok
    found, _ = run("coco", coco(tmp_path / "coco", [*captions, {"image_id": 1, "caption": " "}], pictures))
    assert found.problems == {"empty caption": 1}


def test_coco_with_captions_and_instances(tmp_path: Path) -> None:
    for name in "ab":
        image(tmp_path / f"coco/images/{name}.jpg")
    annotations = [
        {"image_id": 1, "caption": "A dog."},
        {"image_id": 1, "category_id": 18, "bbox": [1, 2, 9, 9]},
        {"image_id": 2, "caption": "A man.", "category_id": 1, "bbox": [1, 2, 9]},
    ]
    images = [{"id": i, "file_name": f"{name}.jpg"} for i, name in ((1, "a"), (2, "b"))]
    found, [both, caption] = run("coco", coco(tmp_path / "coco", annotations, images))
    assert (both.captions, [thing.name for thing in both.objects]) == ({"en": ("A dog.",)}, ["dog"])
    assert (caption.captions, caption.objects) == ({"en": ("A man.",)}, [])
    assert found.problems == {"bad object": 1, "image without usable objects": 1}


def test_coco_of_another_kind_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "mine.jsonl"
    others = ({"images": [], "data": []}, [], "{", "[" * 10_000)
    files = [write(tmp_path / f"{number}.json", content) for number, content in enumerate(others)]
    empty = write(tmp_path / "empty.json", {})
    for name, path, named in (
        *(("coco", file, rf"/{file.name}") for file in files),
        *(
            (name, empty, f"no list '{key}', but nothing$")
            for name, key in (("coco", "images"), ("docvqa", "data"))
        ),
        ("coco", tmp_path, "give the JSON file of COCO"),
        ("cocoa", tmp_path, "did you mean 'coco'"),
    ):
        with pytest.raises(ValueError, match=named):
            import_data(name, path, out)
    with pytest.raises(FileNotFoundError):
        import_data("coco", tmp_path / "gone.json", out)
    assert not out.exists()


def test_nothing_usable_is_an_error_that_says_why_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = coco(tmp_path, [{"id": 1, "image_id": 139, "category_id": 1, "bbox": [1, 1, 9, 9]}])
    out = write(tmp_path / "mine.jsonl", "old")
    for images, kind, named in (
        (None, ValueError, "nothing of .* can be used: 1 x no image file .*--images names another"),
        (tmp_path / "gone", FileNotFoundError, "--images .*gone is not a folder"),
    ):
        with pytest.raises(kind, match=named):
            import_data("coco", path, out, images=images)
        assert out.read_text() == "old"
        assert not list(tmp_path.glob(".*"))


def test_a_mask_of_another_size_than_the_image_is_left_out(tmp_path: Path) -> None:
    image(tmp_path / "d/images/000000000139.jpg")
    whole, half = ({"size": [h, w], "counts": [h * w - 1, 1]} for h, w in ((48, 64), (24, 32)))
    things = [
        {"image_id": 139, "category_id": 1, "bbox": [1, 1, 9, 9], "segmentation": whole},
        {"image_id": 139, "category_id": 1, "bbox": [1, 1, 9, 9], "segmentation": half},
        {"image_id": 139, "category_id": 1, "segmentation": half},
    ]
    images = [{"id": 139, "file_name": "000000000139.jpg", "width": 64, "height": 48}]
    found, [example] = run("coco", coco(tmp_path / "d", things, images))
    assert [thing.mask is None for thing in example.objects] == [False, True]
    assert found.problems == {"damaged mask, box kept": 1, "damaged mask": 1}
    assert "the mask is of 32 x 24 pixels" in found.messages["damaged mask"][0]


def test_names_of_images_are_found_as_they_are_before_without_their_folders(tmp_path: Path) -> None:
    image(tmp_path / "d/a.png", 30, 20)
    image(tmp_path / "d/images/sub/a.png", 50, 40)
    image(tmp_path / "d/images/b c.png")
    names = ["sub/a.png", "sub\\a.png", "C:\\x\\b c.png", "https://example.org/a.png", "sub/b.png", 300 * "x"]
    path = write(tmp_path / "d/t.csv", "image,caption\n" + "".join(f"{name},x\n" for name in names))
    found, examples = run("csv", path)
    assert [example.images[0].shape[:2] for example in examples] == [(40, 50), (40, 50), (48, 64)]
    assert found.problems == {"no image file": 3}
    assert "https://example.org/a.png is a URL: download" in found.messages["no image file"][0]


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("told", ["NFC", "NFD"])
def test_names_of_images_are_found_in_either_unicode_form(tmp_path: Path, stored: Any, told: Any) -> None:
    file = image(tmp_path / "d" / normalize(stored, "é/Ü 한글.jpg"))
    found, [example] = run(
        "csv", write(tmp_path / "d/t.csv", f"image,caption\n{normalize(told, 'é/Ü 한글.jpg')},x\n")
    )
    assert found.ok
    assert Path(example.files[0]).name == file.name


def test_images_of_two_folders_are_not_one_file_without_them(tmp_path: Path) -> None:
    image(tmp_path / "d/1.png")
    names = ["a/1.png", "b/1.png", "a\\1.png", "1.png"]
    path = write(tmp_path / "d/t.csv", "image,caption\n" + "".join(f"{name},of {name}\n" for name in names))
    found, examples = run("csv", path)
    assert [example.captions["en"] for example in examples] == [("of a/1.png",), ("of a\\1.png",), ("of 1.png",)]
    assert found.problems == {"one file for two images": 1}
    assert "t.csv:3: b/1.png" in found.messages["one file for two images"][0]


def test_an_image_that_is_listed_twice_is_taken_once(tmp_path: Path) -> None:
    image(tmp_path / "d/images/a.png")
    images = [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}] * 2
    thing = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}
    found, [example] = run("coco", coco(tmp_path / "d", [thing], images))
    assert (len(example.objects), found.problems) == (1, {"image listed twice": 1})


def test_files_that_are_empty_or_not_in_utf_8_are_named(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    table = write(tmp_path / "t.csv", "image,caption\na.png,x\nb.png,y\n")
    found, [example] = run("csv", table)
    assert (example.captions["en"], found.problems) == (("x",), {"bad image": 1})
    assert f"{tmp_path / 'b.png'} is empty (0 bytes)" in found.messages["bad image"][0]
    with pytest.raises(ValueError, match=r"must end in \.jsonl"):
        import_data("csv", table, tmp_path / "mine.json")
    table.write_bytes(b"image,caption\na.png,\xff\n")
    with pytest.raises(ValueError, match=r"t\.csv is not UTF-8"):
        import_data("csv", table, tmp_path / "mine.jsonl")


def test_an_image_on_its_side_is_left_out(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image(tmp_path / "d/images/000000000139.jpg", exif=exif)  # annotated at 64 x 48, upright 48 x 64
    image(tmp_path / "d/images/b.jpg")
    path = coco(
        tmp_path / "d",
        [{"image_id": i, "category_id": 1, "bbox": [1, 1, 9, 9]} for i in (139, 2)],
        [
            {"id": 139, "file_name": "000000000139.jpg", "width": 64, "height": 48},
            {"id": 2, "file_name": "b.jpg"},
        ],
    )
    found, examples = run("coco", path)
    assert (len(examples), found.problems) == (1, {"image lies on its side": 1})


def test_an_image_on_another_drive_has_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def relpath(*given: Any) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr("os.path.relpath", relpath)
    assert relative_to(tmp_path / "a.jpg", Path("/elsewhere")) == (tmp_path / "a.jpg").as_posix()


# ---- CSV


def test_csv_in_each_of_its_forms(tmp_path: Path) -> None:
    image(tmp_path / "d/a.jpg")
    path = tmp_path / "d/t.csv"
    write(
        path,
        '\ufeffImage,Question,Answer,Lang,note\na.jpg,"What, then?",a cat,de,x\n'
        "a.jpg,Why?,,,\n,x,y,,\n\ngone.jpg,x,y,,\na,b\n",
    )
    found, [example] = run("csv", path)
    assert (example.question, example.answers, example.lang) == ("What, then?", ("a cat",), "de")
    assert example.key == "t.csv:2"
    assert found.notes == ["columns not used: 'note'"]
    assert found.problems == {
        "row without a value": 1,
        "row without an image": 1,
        "no image file": 1,
        "damaged entry": 1,
    }
    write(path, "image;caption\na.jpg;a cat, asleep\n")
    assert run("csv", path)[1][0].captions == {"en": ("a cat, asleep",)}
    path.write_bytes(b'image,caption\r\na.jpg,"two\r\nlines"\r\n')
    assert run("csv", path)[1][0].captions == {"en": ("two\nlines",)}
    write(path, "image\tlabel\ttext\na.jpg\tcat\tSTOP\n")
    assert (run("csv", path)[1][0].label, run("csv", path)[1][0].text) == ("cat", "STOP")


def test_csv_without_its_columns_names_those_it_has(tmp_path: Path) -> None:
    out = tmp_path / "mine.jsonl"
    for header, message in (
        ("file,caption", "needs a column 'image' with the path of the image; its columns are 'file', 'caption'"),
        ("image,question", "needs 'question' and 'answer', or one of .*; its columns are 'image', 'question'"),
        ("image,text,text", "has the column 'text' twice"),
        ("", "its columns are none"),
        ("image,text\na.jpg,Straße", "UTF-8"),
    ):
        (tmp_path / "t.csv").write_bytes(f"{header}\n".encode("latin-1"))
        with pytest.raises(ValueError, match=message):
            import_data("csv", tmp_path / "t.csv", out)
    with pytest.raises(ValueError, match=r"t\.csv:3 is not CSV"):
        import_data("csv", write(tmp_path / "t.csv", 'image,text\na.jpg,ok\na.jpg,"a "b" c"\na.jpg,x\n'), out)
    with pytest.raises(ValueError):
        import_data("csv", write(tmp_path / "t.csv", 'image,text\na.jpg,"open\n'), out)


# ---- DocVQA


def test_docvqa(tmp_path: Path) -> None:
    root = tmp_path / "d"
    image(root / "documents/xnbl0037_1.png")
    question = {
        "questionId": 337,
        "question": "what is the date mentioned in this letter?",
        "question_types": ["handwritten", "form"],
        "image": "documents/xnbl0037_1.png",
        "docId": 279,
        "ucsf_document_id": "xnbl0037",
        "ucsf_document_page_no": "1",
        "answers": ["1/8/93", " "],
        "data_split": "train",
    }
    rows = [
        question,
        {**question, "answers": []},
        {**question, "question": None},
        {**question, "image": "documents/x.png"},
        {**question, "question": " "},
    ]
    whole = {"dataset_name": "SP-DocVQA", "dataset_version": "1.0", "dataset_split": "train", "data": rows}
    found, [example] = run("docvqa", write(root / "train_v1.0_withQT.json", whole))
    assert (example.key, example.answers) == ("337", ("1/8/93",))
    assert example.question == "what is the date mentioned in this letter?"
    assert example.question_kind == "handwritten, form"
    assert found.problems == {
        "question without an answer": 1,
        "question without a text": 1,
        "damaged entry": 1,
        "no image file": 1,
    }
    row = {"questionId": 1, "question": "q", "image_url": "u", "image_local_name": "10.jpeg", "answers": ["a"]}
    image(root / "infographicsvqa_images/10.jpeg")
    assert run("docvqa", write(root / "i.json", {"data": [row]}))[0].ok
    with pytest.raises(ValueError):
        run("docvqa", write(root / "i.json", {"questions": []}))


# ---- every resize


SIDES = st.integers(8, 90)


@st.composite
def drawings(draw: st.DrawFn) -> tuple[Size, Size, list[Box], list[list[float]], NDArray[np.bool_]]:
    """Size by the annotation, size of the file, boxes, polygons, and a mask."""
    old, new = Size(draw(SIDES), draw(SIDES)), Size(draw(SIDES), draw(SIDES))
    fractions = st.floats(0, 1, width=32)
    boxes = []
    for _ in range(draw(st.integers(1, 3))):
        (a, b), (c, d) = (sorted((draw(fractions), draw(fractions))) for _ in range(2))
        boxes.append(Box(a * old.height, c * old.width, (b + 0.1) / 1.1 * old.height, (d + 0.1) / 1.1 * old.width))
    boxes = [box for box in boxes if box.ymax - box.ymin > 1 and box.xmax - box.xmin > 1] or [Box(0, 0, *old)]
    polygons = [[x for corner in corners(box) for x in corner] for box in boxes]
    mask = np.random.default_rng(draw(st.integers(0, 99))).random(old) < draw(st.sampled_from([0.0, 0.3, 0.9]))
    mask[draw(st.integers(0, old.height - 1)), draw(st.integers(0, old.width - 1))] = True
    return old, new, boxes, polygons, mask


def corners(box: Box) -> list[tuple[float, float]]:
    return [(box.xmin, box.ymin), (box.xmax, box.ymin), (box.xmax, box.ymax), (box.xmin, (box.ymin + box.ymax) / 2)]


def scaled(box: Box, old: Size, new: Size) -> NDArray[np.float64]:
    return np.array(box) * ([new.height / old.height, new.width / old.width] * 2)


def check_boxes(example: Example, boxes: list[Box], old: Size, new: Size, error: float) -> None:
    """Boxes are the original ones in the file's pixels, and what detection writes of them reads back as them."""
    expected = [scaled(box, old, new) for box in boxes]
    assert np.allclose([thing.box for thing in example.objects], expected, atol=error)
    named = [dataclasses.replace(thing, name=f"n{i}", mask=None) for i, thing in enumerate(example.objects)]
    task = get_task("detect", max_names=len(named), order="reading")
    sample = task.write(dataclasses.replace(example, objects=named), generator(0))
    for thing in task.parse(sample.target, example.size, strict=True).objects:
        bin_sizes = np.array([new.height, new.width] * 2) / 1000
        assert (np.abs(np.array(thing.box) - expected[int(thing.name[1:])]) <= bin_sizes + error).all()


def write_coco(
    root: Path, old: Size, boxes: list[Box], polygons: list[list[float]], mask: NDArray[np.bool_]
) -> Path:
    packed = coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    rle = {"size": list(old), "counts": packed["counts"].decode()}
    drawn = [*zip(boxes, ([polygon] for polygon in polygons), strict=True), (Box(0, 0, *old), rle)]
    annotations = [
        {"image_id": 139, "category_id": 1, "bbox": [b.xmin, b.ymin, b.width, b.height], "segmentation": shape}
        for b, shape in drawn
    ]
    return coco(root, annotations, [{"id": 139, "file_name": "a.jpg", "width": old.width, "height": old.height}])


@settings(max_examples=25)
@given(drawn=drawings())
def test_annotations_survive_every_resize(drawn: Any) -> None:
    old, new, boxes, polygons, mask = drawn
    if old == (new.width, new.height) and old.height != old.width:
        new = old  # an image on its side is left out
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "d"
        image(root / "images/a.jpg", new.width, new.height)
        found, [example] = run("coco", write_coco(root, old, boxes, polygons, mask))
        assert found.ok
        check_boxes(example, [*boxes, Box(0, 0, *old)], old, new, 0.002)
        masks = [thing.mask for thing in example.objects if thing.mask is not None]
        assert len(masks) == len(boxes) + 1
        for drawn_mask, polygon in zip(masks, polygons, strict=False):
            factors = np.tile([new.width / old.width, new.height / old.height], len(polygon) // 2)
            expected = read_polygons((np.array(polygon) * factors).tolist()).draw(new)
            assert np.mean(drawn_mask != expected) <= 0.02  # corners are rounded to a thousandth of a pixel
        nearest = np.array(Image.fromarray(mask).resize((new.width, new.height), Image.Resampling.NEAREST))
        # a centre on the border of two pixels has two nearest ones
        rows, columns = ((2 * np.arange(n) + 1) * o % (2 * n) != 0 for o, n in zip(old, new, strict=True))
        assert np.array_equal(masks[-1][np.ix_(rows, columns)], nearest[np.ix_(rows, columns)])


def test_run_lengths_of_a_mask_draw_that_mask() -> None:
    for seed in range(20):
        mask = np.random.default_rng(seed).random((5, 7)) < seed / 19
        lengths = RunLengths.of(mask)
        assert np.array_equal(lengths.draw(Size(5, 7)), mask)
        assert sum(lengths.counts) == 35


def test_every_format_has_a_test() -> None:
    assert set(IMPORTERS) == {"coco", "csv", "docvqa"}
    guide = (Path(__file__).parents[2] / "docs" / "data.md").read_text("utf-8")
    assert [name for name in IMPORTERS if f"| `{name}` |" not in guide] == []
