"""Printed lines: what they say, what is held out, and that the ink is there and can be told from its ground."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openpali_lab.worlds import line_texts, lines
from openpali_lab.worlds.compose import WorldSource
from openpali_lab.worlds.line_texts import is_novel
from openpali_lab.worlds.splits import is_heldout
from openpali_lab.worlds.world import World
from openpali_lab.worlds.writing import LUMA


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_held_out_lines_have_unseen_texts_in_unseen_fonts(
    world: World, split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: set[Path] = set()
    printed = lines._printed
    monkeypatch.setattr(
        lines, "_printed", lambda s, text, file, size: used.add(file) or printed(s, text, file, size)
    )
    source = WorldSource(world, "line", split=split)
    examples = [source[i] for i in range(150)]
    families = {file.parent.name for file in used}
    assert families == ({"Libertine"} if split == "heldout" else {"DejaVu"})
    for example in examples:
        assert is_novel(example.text) == (split == "heldout")
        assert 1 <= len(example.text) <= 24
        assert example.text == " ".join(example.text.split())
    assert len({example.text for example in examples}) > 90


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_lines_may_end_in_three_stops(world: World, split: str) -> None:
    plain, stopped = (WorldSource(world, "line", split=split, stops=stops) for stops in (0.0, 1.0))
    pairs = [(plain[i].text, stopped[i]) for i in range(30)]
    ending = [(text, other) for text, other in pairs if other.text.endswith("...")]
    assert len(ending) > 20
    for text, other in ending:
        assert other.text[:-3] == text.rstrip(".,:;…")
        assert is_novel(other.text) == (split == "heldout")
        assert [letter.name for letter in other.objects[-3:]] == [".", ".", "."]


def test_a_line_is_held_out_for_any_of_its_words(world: World) -> None:
    unseen = next(word for word in world.words["en"].all if is_heldout("word", word))
    for text in (f"an {unseen.upper()}!", f"theOld{unseen.capitalize()}", f"/a/{unseen}_1.txt"):
        assert is_novel(text)
    numbers = [f"{n}.50" for n in range(1000)]
    assert 50 < sum(map(is_novel, numbers)) < 150


def test_every_template_can_be_filled(world: World) -> None:
    sampler = _sampler(world)
    for template in (*line_texts.NUMBERS, *line_texts.LABELS, *line_texts.CODE):
        text = line_texts.fill(template, line_texts.FIELDS, sampler, "en")
        assert "{" not in text.replace('{"', "")
        assert text == " ".join(text.split())


def test_lines_have_their_size_and_can_be_told_from_the_ground(world: World) -> None:
    source = WorldSource(world, "line", max_letters=12)
    for i in range(100):
        example = source[i]
        height, width, _ = example.images[0].shape
        assert 10 <= height <= 80
        assert width <= 12 * 1.6 * height + 120
        bright = example.images[0].astype(np.float32) @ LUMA
        assert np.ptp(bright) >= 40


def test_the_ink_is_the_text_on_its_baseline_within_its_image(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the margins: the ink is that of the whole text in the font."""
    [file] = [file for file in world.families["train"][0] if file.stem == "DejaVuSans"]
    monkeypatch.setattr(lines, "FEATURES", None)
    face = lines.font(file, 20)
    left, top, right, bottom = face.getbbox("gÄfj|", anchor="ls")
    seen = set()
    for i in range(40):
        ink, _ = lines._printed(_sampler(world, i), "gÄfj|", file, 20)
        box = Image.fromarray((ink.max(axis=2) * 255 > 100).astype(np.uint8)).getbbox()
        seen.add((box[2] - box[0], box[3] - box[1]))
        assert box[2] - box[0] >= right - left - 4
        assert box[3] - box[1] >= bottom - top - 4
    assert len(seen) > 1


def test_letters_are_objects_in_their_boxes(world: World) -> None:
    """A box is as wide as its letter's ink at the size that the line has at the end, scaled or not."""
    source, checked = WorldSource(world, "line"), 0
    for i in range(60):
        example = source[i]
        assert [thing.name for thing in example.objects] == [c for c in example.text if c != " "]
        height, width, _ = example.images[0].shape
        starts = [thing.box.xmin for thing in example.objects]
        assert starts == sorted(starts)
        for thing in example.objects:
            assert 0 <= thing.box.ymin < (thing.box.ymin + thing.box.ymax) / 2 < height
            assert -0.1 * height <= thing.box.xmin < thing.box.xmax <= width + 0.1 * height
        bright = example.images[0].astype(np.float32) @ LUMA
        middle = bright[:, round(example.objects[0].box.xmin) : round(example.objects[-1].box.xmax)]
        checked += np.ptp(middle) > 0.8 * np.ptp(bright)
    assert checked > 50


def test_subpixels_are_coloured_where_a_stroke_ends() -> None:
    ink = np.zeros((6, 12), np.float32)
    ink[:, 3:6] = 1  # the second pixel of four
    grey = lines._reduced(ink, coloured=False)
    assert grey.shape == (2, 4, 1)
    np.testing.assert_allclose(grey[0, :, 0], [0, 1, 0, 0])
    coloured = lines._reduced(ink, coloured=True)
    np.testing.assert_allclose(coloured[1] * 9, [[0, 1, 3], [6, 7, 6], [3, 1, 0], [0, 0, 0]], atol=1e-5)


def test_too_short_a_line_is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="no train line of 0 characters: allow longer ones"):
        _ = WorldSource(world, "line", max_letters=0)[0]


def test_without_its_data_set_the_builder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path))
    empty = World("toy", (), (), {}, {}, (), (), 96)
    with pytest.raises(FileNotFoundError, match="openpali data build lines"):
        _ = empty.families


def _sampler(world: World, index: int = 0) -> lines.Sampler:
    rng = np.random.default_rng(index)
    return lines.Sampler(world, "train", 96, rng, "key", world.stamps[0])
