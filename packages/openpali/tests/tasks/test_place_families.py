"""Detection, referring segmentation, drawing."""

import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openpali.architectures.registry import find_dialect
from openpali.infer.generate import Generation
from openpali.reports.drawing import COLORS, colors_of, draw_answer
from openpali.tasks import get_task
from openpali.tasks.base import Answer
from openpali.tasks.example import Box, Example, Object, Size, tight_box
from openpali.tasks.refseg import crop_mask, paste_mask
from task_examples import DOG, DOG2, HORSE, FakeMaskCodec, ellipse


def many(task, example, count=200):
    return [task.write(example, np.random.default_rng(seed)) for seed in range(count)]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def near(box: Box, bins: int = 1000) -> Box:
    return pytest.approx(box, abs=300 * 0.5 / (bins - 1) + 1e-9)


@pytest.mark.parametrize("style", ["text", "token"])
@pytest.mark.parametrize("bins", [100, 1000])
def test_detections_round_trip(style: str, bins: int, example) -> None:
    task = get_task("detect", style=style, bins=bins)
    boxes = {"dog": [DOG, DOG2], "horse": [HORSE]}
    for sample in many(task, example):
        names = sample.prompt.removeprefix("detect: ").split(" and ")
        found = task.parse(sample.target, example.size, strict=True).objects
        expected = sorted((name, box) for name in names for box in boxes[name])
        got = sorted((thing.name, thing.box) for thing in found)
        assert [name for name, _ in got] == [name for name, _ in expected]
        for (_, box), (_, there) in zip(got, expected, strict=True):
            assert box == near(there, bins)


def test_detects_one_or_several_names_in_any_order(example) -> None:
    samples = many(get_task("detect"), example)
    assert {s.prompt for s in samples} == {
        "detect: dog",
        "detect: horse",
        "detect: dog and horse",
        "detect: horse and dog",
    }
    assert len({s.target for s in samples}) == 1 + 2 + 6
    ordered = many(get_task("detect", order="reading", max_names=1), example)
    assert {(s.prompt, s.target) for s in ordered} == {
        ("detect: dog", "500 33 749 200 dog 599 666 949 966 dog"),
        ("detect: horse", "50 67 350 333 horse"),
    }


def test_absent_names_find_nothing(example) -> None:
    assert not any("c" in s.prompt.removeprefix("detect") for s in many(get_task("detect"), example))
    alone = many(get_task("detect", absent=1.0, max_names=1), example)
    assert {(s.prompt, s.target) for s in alone} == {("detect: cat", "none"), ("detect: cow", "none")}
    assert get_task("detect").parse("none", example.size, strict=True).objects == ()
    beside = many(get_task("detect", absent=1.0, max_names=3), example)
    assert all(("cat" in s.prompt) != ("cow" in s.prompt) for s in beside)
    assert all("cat" not in s.target and "cow" not in s.target and s.target != "none" for s in beside)
    nothing = replace(example, objects=[])
    assert {s.target for s in many(get_task("detect", absent=1.0), nothing)} == {"none"}
    assert {s.target for s in many(get_task("detect", absent=0.1), nothing)} == {
        "none"
    }  # nothing else can be asked


@pytest.mark.parametrize(
    ("asked", "found", "kept"),
    [
        ("cup", "vacuum cleaner", False),
        ("cup", "Cup of coffee", True),
        ("the big cup on the left", "cup", True),
        ("cup and saucer", "saucer", True),
        ("cup and saucer", "cup and saucer", True),
        ("cup and saucer", "plate", False),
        ("cup", "cupboard", False),
    ],
)
def test_objects_that_were_not_asked_for_are_left_out(asked: str, found: str, kept: bool, tokenizer) -> None:
    task, text = get_task("detect"), f"10 20 30 40 {found}"
    prompt, ids = task.ask(asked), tokenizer.encode(text)
    answer = task.parse(text, Size(100, 100), prompt=prompt)
    assert answer.text == text
    assert [thing.name for thing in answer.objects] == [found] * kept
    assert len(task.claims(Generation(ids, [0.0] * (len(ids) + 1), 0.0, "eos"), tokenizer, prompt)) == kept
    assert len(task.parse(text, Size(100, 100)).objects) == 1


def test_detection_refuses_a_name_that_asks_for_two(example, rng) -> None:
    named = replace(example, objects=[Object("salt and pepper", DOG)])
    with pytest.raises(ValueError, match="'salt and pepper' would be asked for as two: leave out ' and '"):
        get_task("detect").write(named, rng)
    assert (
        get_task("detect", dialect=find_dialect("paligemma")).write(named, rng).prompt == "detect salt and pepper"
    )


@pytest.mark.parametrize(("style", "dialect"), [("text", "pali3"), ("token", "paligemma")])
def test_what_an_expression_refers_to_is_detected(style: str, dialect: str, example, tokenizer, rng) -> None:
    task = get_task("detect", of="expression", style=style, dialect=find_dialect(dialect))
    for expression, called in (
        ("the cats and  dogs, on the left", "the cats and dogs, on the left"),
        ("2 dogs", "dog" if style == "text" else "2 dogs"),  # a number would be read as a coordinate
    ):
        asked = replace(example, expression=expression, referred=[1])
        sample = task.write(asked, rng)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a comma joins no names here
            assert sample.prompt == task.ask(" ".join(expression.split()))
        [thing] = task.parse(sample.target, example.size, prompt=sample.prompt, strict=True).objects
        assert (thing.name, thing.box) == (called, near(DOG2))
        ids = tokenizer.encode(sample.target.replace(called, "thing"))
        answer = task.parse(tokenizer.decode(ids), example.size, prompt=sample.prompt)
        assert [each.name for each in answer.objects] == ["thing"]  # whatever it is called
        if style == "text":
            certain = Generation(ids, [0.0] * (len(ids) + 1), 0.0, "eos")
            values = task.measure(asked, sample, answer, certain, tokenizer)
            assert [row[0] for row in (*values["found"], *values["true"])] == [" ".join(expression.split())] * 2
            assert values["found"][0][1:5] == near(DOG2)
            assert values["true"][0][1:5] == list(DOG2)


def test_what_is_thinner_than_a_bin_is_a_bin_wide(example, rng) -> None:
    task = get_task("detect", of="expression", bins=11)  # of 20 x 30 pixels
    for box, target in (
        (Box(50, 91, 52, 93), "2 3 3 4"),
        (Box(198, 298, 200, 300), "9 9 10 10"),
        (Box(0, 0, 2, 2), "0 0 1 1"),
        (Box(30, 45, 50, 75), "2 2 3 3"),  # as wide as a bin, but both edges are rounded to the same
        (Box(50, 10, 52, 100), "2 0 3 3"),
    ):
        sample = task.write(replace(example, objects=[Object("icon", box)], referred=[0]), rng)
        assert sample.target == f"{target} the horse on the left"


def test_a_thin_object_does_not_cost_the_sample(example, rng) -> None:
    """One of several names; and a mask, which has its box."""
    thin = Object("line", Box(10, 91, 190, 93))
    task = get_task("detect", bins=11, absent=0.0, max_names=2)
    sample = task.write(replace(example, objects=[thin, Object("line", Box(0, 0, 100, 150))]), rng)
    assert sample.target == "0 0 5 5 line 0 3 10 4 line"
    mask = np.zeros(example.size, bool)
    mask[10:190, 91:93] = True
    coded = get_task("refseg", bins=11, masks=FakeMaskCodec())
    drawn = replace(example, objects=[replace(thin, mask=mask)], referred=[0])
    assert coded.write(drawn, rng).target.startswith("0 3 10 4 ")


def test_elements_that_no_tokens_were_written_for_are_measured(example, tokenizer, rng) -> None:
    task = get_task("detect", of="expression")
    answer = Answer("none", (Object("horse", HORSE, confidence=0.25),))
    values = task.measure(example, task.write(example, rng), answer, Generation([], [], 0.0, "eos"), tokenizer)
    assert values["found"] == [["the horse on the left", *HORSE, 0.25]]


def test_objects_are_written_as_far_as_they_can_be() -> None:
    things = [Object("5 stars", Box(1, 1, 20, 20)), Object("menu", Box(0, 0, 50, 50))]
    assert get_task("detect").spell(things, Size(100, 100)) == "0 0 500 500 menu"
    assert get_task("detect").spell(things[:1], Size(100, 100)) == "none"


def test_expressions_that_refer_to_nothing_are_refused(example, rng) -> None:
    task = get_task("detect", of="expression")
    for wrong, message in (
        ({"expression": " "}, "expression"),
        ({"referred": []}, "referred"),
        ({"referred": [3]}, "object 3 of 3"),
        ({"objects": [Object("dog", Box(5, 5, 5, 9))], "referred": [0]}, "scene-7: box"),
    ):
        with pytest.raises(ValueError, match=message):
            task.write(replace(example, **wrong), rng)


def test_detection_refuses_examples_that_cannot_be_written(example, rng) -> None:
    for thing, message in (
        (Object("dog", Box(5, 5, 5, 9)), "box"),
        (Object("7 up", DOG), "name"),
        (Object("", DOG), "name"),
    ):
        with pytest.raises(ValueError, match=f"sample scene-7: {message}"):
            get_task("detect").write(replace(example, objects=[thing]), rng)
    for text in ("", "1 2 3 dog", "1 2 3 4 dog none"[:7]):
        with pytest.raises(ValueError):
            get_task("detect").parse(text, example.size, strict=True)


@pytest.mark.parametrize("style", ["text", "token"])
def test_segmentations_round_trip(style: str, example, rng) -> None:
    task = get_task("refseg", masks=FakeMaskCodec(), style=style)
    sample = task.write(replace(example, referred=[2, 0]), rng)
    assert sample.prompt == "detect: the horse on the left"
    for text in (sample.target, f"here: {sample.target} !"):
        horse, dog = task.parse(text, example.size).objects
        assert horse.box == near(HORSE)
        assert dog.box == near(DOG)
        assert iou(horse.mask, example.objects[2].mask) > 0.8
        assert iou(dog.mask, example.objects[0].mask) > 0.8


def test_segmentation_is_written_as_in_the_paper(example, rng) -> None:
    target = get_task("refseg", masks=FakeMaskCodec()).write(example, rng).target
    words = target.split()
    assert words[:4] == ["50", "67", "350", "333"]
    assert len(words) == 20
    assert all(word.startswith("<mask_token") for word in words[4:])


def test_without_a_codec_answers_are_boxes(example, rng) -> None:
    target = get_task("refseg", masks=FakeMaskCodec()).write(example, rng).target
    task = get_task("refseg")
    (thing,) = task.parse(target, example.size, strict=True).objects
    assert thing.box == near(HORSE)
    assert thing.mask is None
    with pytest.raises(ValueError):
        task.write(example, rng)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expression": ""}, "scene-7 has no expression"),
        ({"referred": []}, "scene-7 has no referred objects"),
        ({"referred": [9]}, "scene-7 refers to object 9 of 3 objects"),
        ({"objects": [Object("dog", DOG)], "referred": [0]}, "scene-7 has no mask for object 0"),
        ({"objects": [Object("dog", Box(3, 3, 3, 9), np.ones((200, 300), bool))], "referred": [0]}, "scene-7: box"),
    ],
)
def test_segmentation_refuses_examples_that_cannot_be_written(change, message: str, example, rng) -> None:
    with pytest.raises(ValueError, match=message):
        get_task("refseg", masks=FakeMaskCodec()).write(replace(example, **change), rng)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: "",
        lambda t: t.replace("50", "2000", 1),
        lambda t: t.replace("350", "20", 1),
        lambda t: t.rsplit(" ", 1)[0],
        lambda t: t + " <mask_token1>",
        lambda t: "a " + t,
        lambda t: t.split(" ", 1)[1],
        lambda t: t.rsplit("<", 1)[0] + "<mask_token128>",
    ],
)
def test_strict_segmentation_refuses_anything_else(spoil, example, rng) -> None:
    task = get_task("refseg", masks=FakeMaskCodec())
    target = task.write(example, rng).target
    with pytest.raises(ValueError):
        task.parse(spoil(target), example.size, strict=True)


def test_a_malformed_object_does_not_affect_the_next(example, rng) -> None:
    task = get_task("refseg", masks=FakeMaskCodec())
    target = task.write(replace(example, referred=[2, 0]), rng).target
    broken = target.replace("50 67 350 333", "350 67 50 333")
    (dog,) = task.parse(broken, example.size).objects
    assert dog.box == near(DOG)


def test_crop_and_paste_round_to_the_same_pixels() -> None:
    mask = np.zeros((100, 100), bool)
    mask[11:20, 30:41] = True
    box, ones = Box(10.6, 29.5, 19.6, 41.4), np.ones((64, 64), np.float32)  # rounds to 11, 30, 20, 41
    crop = crop_mask(mask, box)
    assert crop.shape == (64, 64)
    assert crop.dtype == np.float32
    assert crop.min() == 1
    assert (paste_mask(ones, box, Size(100, 100)) == mask).all()
    floored = paste_mask(ones, Box(11.9, 30.9, 20.9, 41.9), Size(100, 100), floor=True)
    assert (floored == mask).all()
    assert not paste_mask(ones, Box(11.1, 30.1, 11.9, 30.9), Size(100, 100), floor=True).any()


@given(st.tuples(*[st.integers(1, 300)] * 2), st.data())
def test_with_1000_bins_the_target_of_a_full_box_is_its_mask(sides, data) -> None:
    starts = [data.draw(st.integers(0, side - 1)) for side in sides]
    ends = [data.draw(st.integers(start + 1, side)) for start, side in zip(starts, sides, strict=True)]
    mask = np.zeros(sides, bool)
    mask[starts[0] : ends[0], starts[1] : ends[1]] = True
    thing = Object("a", Box(*starts, *ends), mask)
    full = Example("box", objects=[thing], expression="a", referred=[0], original=Size(*sides))
    task = get_task("refseg", masks=FakeMaskCodec())
    sample = task.write(full, np.random.default_rng(0))
    (found,) = task.parse(sample.target, Size(*sides)).objects
    assert (found.mask == mask).all()


def test_the_dialect_says_how_edges_of_masks_are_rounded(example, rng) -> None:
    """PaliGemma's owners floor them."""
    everywhere = SimpleNamespace(encode=lambda mask: [0] * 16, decode=lambda codes: np.ones((64, 64), np.float32))
    for dialect, to_pixel in (("pali3", round), ("paligemma", int)):
        task = get_task("refseg", masks=everywhere, dialect=find_dialect(dialect), bins=24, style="text")
        (found,) = task.parse(task.write(example, rng).target, example.size).objects
        assert [*tight_box(found.mask)] == [to_pixel(edge) for edge in found.box]
        assert [round(edge) for edge in found.box] != [int(edge) for edge in found.box]


def test_the_paste_is_true_above_zero() -> None:
    box, size = Box(0, 0, 9, 9), Size(9, 9)
    assert paste_mask(np.full((64, 64), 0.01, np.float32), box, size).all()
    assert not paste_mask(np.zeros((64, 64), np.float32), box, size).any()


def test_the_crop_is_soft_and_antialiased() -> None:
    mask = np.zeros((640, 640), bool)
    mask[:, ::2] = True
    crop = crop_mask(mask, Box(0, 0, 640, 640))
    assert np.abs(crop - 0.5).max() < 0.1


@given(st.tuples(*[st.floats(-20, 120)] * 4))
def test_any_box_can_be_cropped_and_pasted(edges) -> None:
    box = Box(*edges)
    crop = crop_mask(np.ones((90, 80), bool), box)
    assert crop.shape == (64, 64)
    assert crop.min() >= 0.99
    pasted = paste_mask(np.ones((64, 64), np.float32), box, Size(90, 80))
    assert pasted.shape == (90, 80)
    assert pasted.any()
    pasted = paste_mask(np.ones((64, 64), np.float32), box, Size(90, 80), floor=True)
    area = max(0, min(int(box.ymax), 90) - max(int(box.ymin), 0)) * max(
        0, min(int(box.xmax), 80) - max(int(box.xmin), 0)
    )
    assert pasted.sum() == area


def test_masks_survive_crop_and_paste(rng) -> None:
    mask = ellipse(200, 300, HORSE)
    assert iou(paste_mask(crop_mask(mask, HORSE) * 2 - 1, HORSE, Size(200, 300)), mask) > 0.97


def test_drawing_marks_what_was_found() -> None:
    image = np.full((200, 300, 3), 255, np.uint8)
    objects = [
        Object("horse", HORSE, ellipse(200, 300, HORSE)),
        Object("dog", DOG),
        Object("dog", DOG2),
        Object("", Box(0, 0, 200, 300)),
    ]
    drawn = np.asarray(draw_answer(image, objects))
    assert drawn.shape == image.shape
    assert (drawn[40, 60] != 255).any()  # inside of the horse's mask
    assert (drawn[155, 245] == 255).all()  # inside of the dog's box, which has no mask
    assert (drawn[189, 245] == drawn[149, 40]).all()  # one colour per name
    assert (drawn[189, 245] != drawn[10, 60]).any()
    assert (image == 255).all()


def test_what_is_small_is_not_hidden_by_its_label_nor_by_those_of_others() -> None:
    image = np.full((400, 640, 3), 200, np.uint8)
    rows = [Object("button", Box(top, 10, top + 20, 130)) for top in range(100, 200, 21)]
    drawn = np.asarray(draw_answer(image, rows))
    labels = (drawn == np.asarray(colors_of(["button"])["button"])).all(axis=-1)
    inside = sum(labels[int(r.box.ymin) + 2 : int(r.box.ymax) - 2, 12:128].sum() for r in rows)
    assert inside < 0.03 * len(rows) * 16 * 116
    assert labels.sum() > len(rows) * 200  # they are somewhere
    large = np.asarray(draw_answer(image, [Object("button", Box(100, 100, 390, 600))]))
    assert (large[104:110, 104:110] != 200).any()  # in the corner


def test_a_name_has_one_colour_in_every_image_whatever_is_beside_it() -> None:
    dog = colors_of(["dog"])["dog"]
    assert colors_of(["cat", "dog", "cat"])["dog"] == colors_of(["dog", "cat"])["dog"] == dog
    names = [f"thing {i}" for i in range(len(COLORS))]
    assert {*colors_of(names).values()} == {*COLORS}  # of one image, while there are colours
    assert len({colors_of([name])[name] for name in names}) > 1
    assert colors_of([*names, "another"]).keys() == {*names, "another"}


def test_drawing_writes_text_below() -> None:
    image = np.full((100, 120, 3), 200, np.uint8)
    short = np.asarray(draw_answer(image, text="a horse"))
    long = np.asarray(draw_answer(image, text="a horse and two dogs on the grass beside an old bridge"))
    assert 100 < short.shape[0] < long.shape[0]
    assert (short[:100] == image).all()
    assert short[100:].min() < 50
