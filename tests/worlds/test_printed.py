"""Lines of screens: how letters are smoothed, what they say, and which fonts are held out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from openpali.text.characters import numbers_of, plain
from openpali_lab.worlds import glyphs, printed, printed_texts
from openpali_lab.worlds.builders.printed import FAMILIES
from openpali_lab.worlds.compose import WorldSource
from openpali_lab.worlds.line_texts import has_novel_word
from openpali_lab.worlds.splits import is_heldout
from openpali_lab.worlds.world import World


@pytest.fixture
def font(world: World) -> Path:
    return next(file for files in world.families["train"] for file in files if file.stem.startswith("DejaVu"))


@pytest.fixture
def source(world: World, world_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The data set ``printed``, of one text a language and no font beside those of ``lines``."""
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path))
    folder = tmp_path / "data" / "printed"
    (folder / "fonts").mkdir(parents=True)
    (tmp_path / "data" / "lines").symlink_to(world_home / "data" / "lines")
    for language in {code for codes in printed_texts.SCRIPTS.values() for code in codes}:
        words = " ".join(world.words["en"].all[:400])
        (folder / f"text-{language}.txt").write_text(f"{words}\n", "utf-8")
    printed.font_files.cache_clear()
    printed_texts._lines.cache_clear()
    monkeypatch.setattr(printed, "BITMAP", 0.0)
    yield
    printed.font_files.cache_clear()
    printed_texts._lines.cache_clear()


def test_without_freetype_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "freetype", None)
    with pytest.raises(ValueError, match=r"openpali-lab\[pages\]"):
        glyphs.face(tmp_path / "missing.ttf")


def test_unsmoothed_letters_have_two_tones_and_subpixels_have_colours(font: Path) -> None:
    tones = {mode: glyphs.write("wave 93", font, 13, mode) for mode in glyphs.MODES}
    assert set(np.unique(tones["mono"].cover)) == {0, 1}
    assert all(len(np.unique(tones[mode].cover)) > 20 for mode in glyphs.MODES if mode != "mono")
    rgb, bgr = tones["rgb"].cover, tones["bgr"].cover
    assert (np.ptp(rgb, axis=2) > 0.2).any()
    assert np.array_equal(rgb, bgr[..., ::-1])
    assert tones["light"].cover.shape[2] == 1
    assert not np.array_equal(tones["light"].cover, tones["hinted"].cover)


def test_letters_end_where_the_next_begin(font: Path) -> None:
    row = glyphs.write("il", font, 20, "unhinted")
    assert len(row.ends) == 3
    left, right = (row.cover[:, round(row.ends[i]) : round(row.ends[i + 1])] for i in (0, 1))
    assert min(left.max(), right.max()) > 0.5
    assert row.cover[row.baseline + 1 :].max() == 0  # neither has a descender


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_lines_are_the_same_each_time_and_keep_to_their_split(world: World, source: None, split: str) -> None:
    lines, again = (WorldSource(world, "printed", split=split) for _ in range(2))
    for number in range(60):
        example = lines[number]
        assert np.array_equal(example.images[0], again[number].images[0])
        assert example.text == again[number].text == plain(" ".join(example.text.split()))
        assert numbers_of(example.text)
        assert len(example.text) <= 2 or split == "heldout" or not has_novel_word(example.text)
    for bitmap in (False, True):
        families = {file.parent.name for files in printed.font_files(split, bitmap) for file in files}
        held = {family for family in families if is_heldout("font", family) or family in printed.ASIDE}
        assert held == (families if split == "heldout" else set())


def test_fonts_that_others_test_on_are_no_family() -> None:
    assert {"Efont", "MicrosoftSans", *printed.ASIDE} <= {
        family for family in FAMILIES if is_heldout("font", family) or family in printed.ASIDE
    }
    assert not any("6x13" in names or "koi" in names for files in FAMILIES.values() for names in files.values())


def test_clones_of_fonts_that_lines_hold_out_share_their_family() -> None:
    families = {package: family for family, sources in FAMILIES.items() for package in sources}
    assert is_heldout("font", families["fonts-cmu"])
