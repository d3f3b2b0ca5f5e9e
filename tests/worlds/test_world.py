"""The composed world: purity, what is held out, and that everything that a sample says of its image is true."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest

from openpali.reports.fonts import has_glyph
from openpali.tasks.example import Box, Example, Object, tight_box
from openpali_lab.worlds import backgrounds, scenes, videos
from openpali_lab.worlds.compose import KINDS, WorldSource
from openpali_lab.worlds.expressions import find_expressions
from openpali_lab.worlds.paint import Patch
from openpali_lab.worlds.phrases import plural
from openpali_lab.worlds.splits import is_heldout
from openpali_lab.worlds.world import Stamp, World

SPLITS = ("train", "heldout")
GROUND = (1, 254, 3)  # a colour that no stamp has


def same(a: Example, b: Example) -> bool:
    """Whether two examples are equal in every field, pixel by pixel."""
    for field in dataclasses.fields(Example):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if field.name == "images":
            if len(x) != len(y) or not all(np.array_equal(p, q) for p, q in zip(x, y, strict=True)):
                return False
        elif field.name == "objects":
            if [(o.name, o.box) for o in x] != [(o.name, o.box) for o in y]:
                return False
            if not all(np.array_equal(o.mask, p.mask) for o, p in zip(x, y, strict=True)):
                return False
        elif x != y:
            return False
    return True


@pytest.fixture
def plain_ground(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every background in one known colour."""
    ground = np.array(GROUND, np.uint8)
    monkeypatch.setattr(backgrounds, "render", lambda name, canvas, world: np.full((canvas, canvas, 3), ground))
    monkeypatch.setattr(backgrounds, "pale", lambda image: image)


# ---- purity


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"printed"}))  # which test_printed.py tests
def test_a_sample_is_a_pure_function_of_its_index(world: World, kind: str, split: str) -> None:
    first = WorldSource(world, kind, split=split, canvas=96)
    there = [first[i] for i in range(6)]
    back = [WorldSource(world, kind, split=split, canvas=96)[i] for i in reversed(range(6))][::-1]
    assert all(same(a, b) for a, b in zip(there, back, strict=True))
    assert all(same(first[i], there[i]) for i in (3, 0, 5))
    assert not same(there[0], dataclasses.replace(there[1], key=there[0].key))
    other = WorldSource(world, kind, split=split, canvas=96, seed=1)[0]
    assert not same(there[0], dataclasses.replace(other, key=there[0].key))


def test_images_have_the_canvas_asked_for(world: World) -> None:
    for kind in [*KINDS.keys() - {"line", "printed"}]:
        example = WorldSource(world, kind, canvas=100)[7]
        assert all(image.shape == (100, 100, 3) and image.dtype == np.uint8 for image in example.images)
    assert len(WorldSource(world, "video", frames=5)[0].images) == 5


# ---- what is held out


def test_the_rule_is_fixed_and_holds_out_a_tenth() -> None:
    words = ("box", "cat", "kid", "planet", "zoo", "stone")
    assert [word for word in words if is_heldout("word", word)] == ["box", "kid", "zoo"]
    assert 0.09 < sum(is_heldout("word", str(i)) for i in range(10_000)) / 10_000 < 0.11
    assert [is_heldout("a", "b", str(i)) for i in range(99)] != [is_heldout("ab", str(i)) for i in range(99)]


@pytest.mark.usefixtures("plain_ground")
def test_pairs_of_names(world: World) -> None:
    for kind in ("scene", "video"):
        for split in SPLITS:
            source, several = WorldSource(world, kind, split=split, canvas=40), 0
            for i in range(150):
                names = sorted({thing.name for thing in source[i].objects})
                pairs = [(a, b) for a in names for b in names if a < b]
                heldout = [is_heldout("pair", a, b) for a, b in pairs]
                assert not any(heldout) if split == "train" else any(heldout) or not pairs
                several += len(names) > 1
            assert several > 50


@pytest.mark.usefixtures("plain_ground")
def test_expressions(world: World) -> None:
    for split in SPLITS:
        source = WorldSource(world, "scene", split=split, canvas=64, expressions=True)
        for i in range(120):
            example = source[i]
            name, other = described(example)
            template = example.expression.replace(name, "{}", 1)
            template = template.replace(f"the {other}", "the {}") if other else template
            assert is_heldout("expression", template, name) == (split == "heldout")


@pytest.mark.usefixtures("plain_ground")
def test_words(world: World) -> None:
    seen: dict[str, set[str]] = {split: set() for split in SPLITS}
    for split in SPLITS:
        source = WorldSource(world, "word", split=split, canvas=32, min_letters=2)
        for i in range(300):
            seen[split].add(source[i].text)
    assert all(is_heldout("word", word.lower()) for word in seen["heldout"])
    assert not any(is_heldout("word", word.lower()) for word in seen["train"])
    assert {word.lower() for word in seen["heldout"] if len(word) > 2} <= {
        word for word in world.words["en"].all if is_heldout("word", word)
    }


@pytest.mark.usefixtures("plain_ground")
def test_lines_of_documents(world: World) -> None:
    for split in SPLITS:
        source = WorldSource(world, "document", split=split, canvas=120)
        for i in range(50):
            for line in source[i].text.split("\n"):
                assert is_heldout("line", re.sub(r": \d+$", "", line)) == (split == "heldout")


@pytest.mark.usefixtures("plain_ground")
def test_motions(world: World) -> None:
    for split in SPLITS:
        source = WorldSource(world, "video", split=split, canvas=32, frames=2)
        for i in range(250):
            caption = source[i].captions["en"][0]
            for direction, (words, _, _) in videos.DIRECTIONS.items():
                if caption.endswith(words):
                    name = caption.removesuffix(" " + words).split(" ", 1)[1]
                    assert is_heldout("motion", name, direction) == (split == "heldout")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("text", "line", "printed")])
def test_backgrounds(world: World, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []

    def render(name: str, canvas: int, world: World) -> np.ndarray:
        used.append(name)
        return np.zeros((canvas, canvas, 3), np.uint8)

    monkeypatch.setattr(backgrounds, "render", render)
    for split in SPLITS:
        used.clear()
        source = WorldSource(world, kind, split=split, canvas=64)
        for i in range(80):
            _ = source[i]
        assert len(used) >= 80
        assert all(is_heldout("background", name) == (split == "heldout") for name in used)
        allowed = set(backgrounds.KINDS) - ({"text"} if kind in ("word", "document") else set())
        assert {name.split("-")[0] for name in used} == allowed


@pytest.mark.parametrize("kind", backgrounds.KINDS)
def test_a_background_is_a_pure_function_of_its_id(world: World, kind: str) -> None:
    images = [backgrounds.render(f"{kind}-{i}", 48, world) for i in range(4)]
    again = [backgrounds.render(f"{kind}-{i}", 48, world) for i in range(4)]
    assert all(np.array_equal(a, b) for a, b in zip(images, again, strict=True))
    assert all(image.shape == (48, 48, 3) and image.dtype == np.uint8 for image in images)
    assert not np.array_equal(images[0], images[1])


# ---- boxes, masks, counts


@pytest.mark.usefixtures("plain_ground")
def test_boxes_are_the_bounds_of_the_masks(world: World) -> None:
    for kind in ("single", "scene"):
        source = WorldSource(world, kind, canvas=80)
        for i in range(60):
            masks = [thing.mask for thing in source[i].objects]
            assert sum(mask.astype(int) for mask in masks).max() == 1  # a pixel shows one thing
            for thing in source[i].objects:
                rows, columns = np.nonzero(thing.mask)
                assert thing.box == Box(rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)


@pytest.mark.usefixtures("plain_ground")
@pytest.mark.parametrize("kind", ["single", "scene"])
def test_masks_agree_with_the_pixels_that_changed(world: World, kind: str) -> None:
    source = WorldSource(world, kind, canvas=80)
    for i in range(60):
        example = source[i]
        changed = (example.images[0] != np.array(GROUND)).any(axis=-1)
        inside = np.any([thing.mask for thing in example.objects], axis=0)
        assert changed[inside].all()
        padded = np.pad(inside, 2)
        near = np.any([padded[y : y + 80, x : x + 80] for y in range(5) for x in range(5)], axis=0)
        assert not changed[~near].any()  # soft edges reach a pixel or two beyond
        for thing in example.objects:  # each in one colour, so the thing in front owns its pixels
            padded = np.pad(thing.mask, 2)
            core = np.all([padded[y : y + 80, x : x + 80] for y in range(5) for x in range(5)], axis=0)
            assert not core.any() or np.ptp(example.images[0][core].astype(int), axis=0).max() <= 4


def test_things_have_the_stated_sizes(world: World) -> None:
    for i in range(150):
        (thing,) = WorldSource(world, "single", canvas=100)[i].objects
        assert 42 <= max(thing.box.ymax - thing.box.ymin, thing.box.xmax - thing.box.xmin) <= 90


@pytest.mark.usefixtures("plain_ground")
def test_scenes_have_one_to_four_things_and_one_to_four_of_a_name(world: World) -> None:
    source = WorldSource(world, "scene", canvas=64)
    examples = [source[i] for i in range(250)]
    assert {len(example.objects) for example in examples} == {1, 2, 3, 4}
    most = [max(names.count(n) for n in names) for e in examples if (names := [o.name for o in e.objects])]
    assert all(most.count(count) >= 12 for count in (1, 2, 3))
    four = WorldSource(world, "scene", canvas=64, min_objects=4)
    assert 8 <= sum(len({thing.name for thing in four[i].objects}) == 1 for i in range(100)) <= 28
    six = WorldSource(world, "scene", canvas=64, min_objects=6, max_objects=6)[0]
    assert len(six.objects) == 6


def test_things_are_mostly_visible(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    whole: list[int] = []

    def paint(ground: np.ndarray, patches: list[Patch], places: list[tuple[int, int]]) -> np.ndarray:
        whole[:] = [patch.shape.sum() for patch in patches]
        return ground

    monkeypatch.setattr(scenes, "paint", paint)
    source = WorldSource(world, "scene", canvas=48, min_objects=8, max_objects=8)
    for i in range(25):  # many scenes of eight things are rejected
        seen = [thing.mask.sum() for thing in source[i].objects]
        assert len(seen) == 8
        assert all(part >= 0.6 * all_of_it for part, all_of_it in zip(seen, whole, strict=True))


@pytest.mark.usefixtures("plain_ground")
def test_a_wide_scene_shows_all_of_its_things(world: World) -> None:
    source = WorldSource(world, "scene", canvas=64, height=0.25, smallest=0.15, largest=0.24, max_objects=3)
    for i in range(20):
        sample = source[i]
        assert sample.images[0].shape == (16, 64, 3)
        for thing in sample.objects:
            assert thing.mask is not None
            assert thing.mask.shape == (16, 64)
            assert thing.box == tight_box(thing.mask)
            assert 5 <= max(thing.box.ymax - thing.box.ymin, thing.box.xmax - thing.box.xmin) <= 16
    assert len({sample.objects[0].box for sample in map(source.__getitem__, range(20))}) > 15
    for options in ({"height": 0.4}, {"height": 1.1}, {"height": 0.5, "expressions": True}):
        with pytest.raises(ValueError, match="height"):
            WorldSource(world, "scene", canvas=64, **options)[0]


def test_captions_of_scenes_count_and_place(world: World) -> None:
    numbers = {"two": 2, "three": 3, "four": 4}
    source = WorldSource(world, "scene", canvas=64)
    for i in range(200):
        example = source[i]
        caption, names = example.captions["en"][0], [thing.name for thing in example.objects]
        placed = re.fullmatch(r"an? (.+) (to the left of|to the right of|above|below) an? (.+)", caption)
        if placed:
            first, second = example.objects
            assert (first.name, second.name) == (placed[1], placed[3])
            assert loosely(placed[2], first, second)
            continue
        told: list[str] = []
        for part in re.split(r", | and ", caption):
            word, thing = part.split(" ", 1)
            count = numbers.get(word, 1)
            told += [name for name in set(names) if thing == (plural(name) if count > 1 else name)] * count
        assert sorted(told) == sorted(names)


# ---- referring expressions

SIZE = "large|small|largest|smallest"
PLACE = "on the left|on the right|at the top|at the bottom"
MOST = "leftmost|rightmost|topmost|bottommost"
RELATION = "to the left of|to the right of|above|below"
GRAMMAR = re.compile(
    rf"the (?:(?P<size>{SIZE}) )?(?:(?P<most>{MOST}) )?(?P<name>\w+ \w+)"
    rf"(?: (?P<place>{PLACE}))?(?: (?P<relation>{RELATION}) the (?P<other>\w+ \w+))?"
)
AXIS = {"left": (1, -1), "right": (1, 1), "top": (0, -1), "bottom": (0, 1), "above": (0, -1), "below": (0, 1)}


def read(expression: str) -> dict[str, str | None]:
    found = GRAMMAR.fullmatch(expression)
    assert found, expression
    return found.groupdict()


def described(example: Example) -> tuple[str, str | None]:
    parts = read(example.expression)
    assert parts["name"]
    return parts["name"], parts["other"]


def middle(thing: Object) -> tuple[float, float]:
    return (thing.box.ymin + thing.box.ymax) / 2, (thing.box.xmin + thing.box.xmax) / 2


def direction(words: str) -> tuple[int, int]:
    return next(way for word, way in AXIS.items() if word in words)


def loosely(relation: str, first: Object, second: Object) -> bool:
    axis, sign = direction(relation)
    return sign * (middle(first)[axis] - middle(second)[axis]) > 0


def fits(parts: dict[str, str | None], thing: Object, objects: list[Object]) -> bool:
    """Whether ``thing`` fits under the loosest reading of every word."""
    same = [o for o in objects if o.name == parts["name"]]
    if thing not in same:
        return False
    if size := parts["size"]:
        extents = [math.hypot(o.box.ymax - o.box.ymin, o.box.xmax - o.box.xmin) for o in same]
        best = max(extents) if size.startswith("large") else min(extents)
        if extents[same.index(thing)] != best:
            return False
    for words in (parts["most"], parts["place"]):
        if words:
            axis, sign = direction(words)
            if sign * middle(thing)[axis] != max(sign * middle(o)[axis] for o in same):
                return False
    if relation := parts["relation"]:
        others = [o for o in objects if o.name == parts["other"]]
        return len(others) == 1 and loosely(relation, thing, others[0])
    return True


@pytest.mark.usefixtures("plain_ground")
@pytest.mark.parametrize("split", SPLITS)
def test_expressions_fit_one_thing_only(world: World, split: str) -> None:
    source = WorldSource(world, "scene", split=split, canvas=64, expressions=True)
    words: set[str] = set()
    for i in range(200):
        example = source[i]
        objects = list(example.objects)
        parts = read(example.expression)
        assert [number for number, o in enumerate(objects) if fits(parts, o, objects)] == list(example.referred)
        words |= {part for key, part in parts.items() if part and key not in ("name", "other")}
    everything = set("|".join((SIZE, PLACE, MOST, RELATION)).split("|"))
    assert len(everything - words) <= 3  # all sorts come up


def test_expressions_of_a_known_scene() -> None:
    objects = [
        Object("horse", Box(50, 5, 90, 45)),
        Object("horse", Box(50, 80, 70, 100)),
        Object("apple", Box(0, 80, 20, 100)),
    ]
    found = {(e.text, e.index) for e in find_expressions(objects, 120)}
    assert found == {
        ("the large horse", 0),
        ("the horse on the left", 0),
        ("the large horse on the left", 0),
        ("the horse to the left of the apple", 0),
        ("the small horse", 1),
        ("the horse on the right", 1),
        ("the small horse on the right", 1),
        ("the apple", 2),
    }


# ---- single, word, document, video


def test_a_single_thing_is_captioned_in_every_language(world: World) -> None:
    example = WorldSource(world, "single")[3]
    stamp = next(s for s in world.stamps if s.name == example.objects[0].name)
    assert example.captions == {code: [stamp.captions[code]] for code in world.languages}
    assert len(example.captions) == 10
    assert example.label == stamp.category
    assert example.vocabulary == world.names
    assert len(world.names) == 128


@pytest.mark.usefixtures("plain_ground")
def test_words_can_be_read(world: World) -> None:
    source = WorldSource(world, "word", canvas=100)
    for i in range(100):
        example = source[i]
        assert example.captions["en"] == [f"the word {example.text}"]
        assert example.text.isupper()
        assert 3 <= len(example.text) <= 6
        image = example.images[0].astype(float)
        ink = (image != np.array(GROUND)).any(axis=-1)
        columns, rows = np.flatnonzero(ink.any(axis=0)), np.flatnonzero(ink.any(axis=1))
        width, height = columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1
        assert width <= 100
        assert height <= 100
        assert width >= 45 or height >= 60
        bright = image @ np.array([0.299, 0.587, 0.114])
        assert np.abs(bright - bright[~ink][0]).max() >= 85
    letters = {WorldSource(world, "word", min_letters=1, max_letters=1, canvas=32)[i].text for i in range(400)}
    assert letters == set("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def test_documents(world: World) -> None:
    source = WorldSource(world, "document", canvas=160, min_lines=2, max_lines=3)
    examples = [source[i] for i in range(60)]
    assert {e.lang for e in examples} == set(world.languages)
    for example in examples:
        lines = example.text.split("\n")
        assert 1 <= len(lines) <= 3
        known = {stamp.captions[example.lang] for stamp in world.stamps}
        assert all(re.sub(r": \d+$", "", line) in known for line in lines)
        assert example.images[0].std() > 1
    with pytest.raises(ValueError):
        _ = WorldSource(world, "document", canvas=20, languages=["en"])[0]


def test_fonts_are_chosen_by_their_glyphs(world: World) -> None:
    file = world.fonts["Latn"][0]
    assert has_glyph(file, "é")
    assert has_glyph(file, "Ж")
    assert not has_glyph(file, "한")


@pytest.mark.usefixtures("plain_ground")
def test_videos_show_what_they_say(world: World) -> None:
    source = WorldSource(world, "video", canvas=80)
    answers: set[str] = set()
    for i in range(120):
        example = source[i]
        first, last = (
            np.argwhere((image != np.array(GROUND)).any(axis=-1)).mean(axis=0)
            for image in (example.images[0], example.images[-1])
        )
        caption = example.captions["en"][0]
        down, right = next(((d, r) for w, d, r in videos.DIRECTIONS.values() if caption.endswith(w)), (0, 0))
        assert [0 if abs(step) < 2 else np.sign(step) for step in last - first] == [down, right]
        (answer,) = example.answers
        answers.add(answer)
        mover = next(o.name for o in example.objects if o.name in caption)
        if example.question == "what moves?":
            assert example.question_kind == "what"
            assert answer == ("nothing" if caption.endswith("stays still") else mover)
        else:
            assert example.question_kind == "where"
            asked = example.question.removeprefix("where does the ").removesuffix(" move?")
            assert asked in [thing.name for thing in example.objects]
            moving = {(0, -1): "left", (0, 1): "right", (-1, 0): "up", (1, 0): "down"}.get((down, right), "nowhere")
            assert answer == (moving if asked == mover else "nowhere")
    assert {"left", "right", "up", "down", "nowhere", "nothing"} <= answers


def test_videos_of_one_thing_and_of_one_question(world: World) -> None:
    source = WorldSource(world, "video", frames=2, most=1, kinds=("where",))
    examples = [source[i] for i in range(30)]
    assert {(len(e.objects), e.question_kind) for e in examples} == {(1, "where")}
    for kinds in ((), ("why",)):
        with pytest.raises(ValueError):
            WorldSource(world, "video", frames=2, kinds=kinds)[0]


# ---- the world itself, and errors


def test_stamps_are_cropped_and_named(world: World) -> None:
    stamp = next(s for s in world.stamps if s.name == "orange pillar")
    assert (stamp.article, stamp.noun, stamp.category) == ("an", "an orange pillar", "shapes/pillar")
    assert stamp.rgba.shape[1] < stamp.rgba.shape[0]
    assert stamp.rgba.dtype == np.uint8
    edges = (stamp.rgba[0], stamp.rgba[-1], stamp.rgba[:, 0], stamp.rgba[:, -1])
    assert all((edge[:, 3] >= 128).any() for edge in edges)
    assert isinstance(stamp, Stamp)
    assert world.languages[0] == "en"


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("bunch of grapes", "bunches of grapes"),
        ("fairy", "fairies"),
        ("toy", "toys"),
        ("double decker bus", "double decker buses"),
        ("clownfish", "clownfish"),
        ("snowman", "snowmen"),
        ("mouse", "mice"),
    ],
)
def test_plurals(one: str, many: str) -> None:
    assert plural(one) == many


def test_errors_name_what_is_wrong(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong, named in (
        (lambda: WorldSource(world, "film"), "'film'"),
        (lambda: WorldSource(world, "single", split="test"), "'test'"),
        (lambda: WorldSource(world, "scene", max_object=3), "'max_object'"),
        (lambda: WorldSource(world, "word", min_letters=17, max_letters=17)[0], "17 letters"),
        (lambda: World.load("giga"), "'giga'"),
    ):
        with pytest.raises(ValueError, match=named):
            wrong()
    with pytest.raises(IndexError):
        _ = WorldSource(world, "single")[-1]
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="openpali data build stamps"):
        World.load()


def test_a_world_with_missing_stamps_says_which(
    world_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "clipart").symlink_to(world_home / "data" / "clipart")
    (tmp_path / "data" / "stamps").mkdir()
    with pytest.raises(FileNotFoundError, match="animals-amphibians-frog"):
        World.load()
