"""Windows of toolkits: what they show is drawn by chance alone, and stands where they say."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFont

from openpali.data.media.images import Preprocess
from openpali.data.sources.registry import open_source
from openpali.tasks.example import Box
from openpali.tasks.registry import get_task
from openpali_lab.worlds.builders import native, packages, rendered, texts
from openpali_lab.worlds.builders.native import screen, terminals, windows
from openpali_lab.worlds.builders.native.screen import Layer, compose
from openpali_lab.worlds.builders.native.terminals import Page, grid_answer
from openpali_lab.worlds.builders.rendered import CHUNK, write_shard
from openpali_lab.worlds.builders.texts import WindowTexts, mnemonic_of
from openpali_screen.elements.encode import ElementEncoder
from openpali_screen.find.encode import FindingEncoder
from openpali_screen.read.encode import ReadingEncoder

FETCHED = all(map(packages.is_fetched, native.needed()))
try:
    screen.check_installed()
    INSTALLED = True
except FileNotFoundError:
    INSTALLED = False
NEEDS_TEXTS = pytest.mark.skipif(not FETCHED, reason="packages are missing: openpali data build native")
NEEDS_TOOLKITS = pytest.mark.skipif(
    not INSTALLED, reason="programs are missing: openpali data build native names them"
)


def render(folder: Path, name: str) -> None:
    write_shard(folder / f"{name}-00000.tar", "native", name, 0, native.draw)


def test_mnemonics_are_marked_by_both_toolkits() -> None:
    assert mnemonic_of("Save _As") == ("Save As", 5)
    assert mnemonic_of("&Open") == ("Open", 0)
    assert mnemonic_of("a & b") == ("a & b", -1)


def test_no_test_program_is_a_source_of_texts_and_dev_fonts_are_apart() -> None:
    forbidden = ("abiword", "geany", "gedit", "gnumeric", "audacious", "baobab", "mousepad", "evince", "filezilla")
    forbidden += ("erlang", "octave", "libgtk-4", "nodejs", "startbootstrap", "fltk", "wx", "motif")
    assert not [name for name in native.needed() if name.startswith(forbidden)]
    assert not set(terminals.BITMAPS.values()) & set(terminals.DEV_BITMAPS.values())
    assert not set(terminals.FAMILIES) & set(terminals.DEV_FAMILIES)
    assert len(terminals.DEV_BITMAPS) >= 0.3 * len([*terminals.BITMAPS, *terminals.DEV_BITMAPS])
    learned = [count for name, count in native.WINDOWS.items() if not name.startswith("dev-")]
    assert native.WINDOWS["terminal"] / sum(learned) == pytest.approx(0.25, abs=0.01)
    assert not [count for count in native.WINDOWS.values() if count % CHUNK]


def answer() -> Layer:
    """A window of 100 x 60 with two words and a button, of which all is seen."""
    pixels = np.full((60, 100, 3), 200, np.uint8)
    words = [["one", 10, 28, 20, 10], ["two", 40, 58, 20, 10]]
    clip = [0, 0, 100, 60]
    button = [clip, "button", "Go", [5, 30, 45, 50]]
    return Layer(Image.fromarray(pixels), (0, 0), [[clip, words, False, [False, False]]], [button], [])


def test_what_another_window_covers_is_not_told() -> None:
    above = Layer(Image.new("RGB", (60, 20)), (38, 8))
    alone = compose([(answer(), (0, 0))], None)
    assert [line.text for line in alone.lines] == ["one", "two"]
    assert alone.lines[0].box == Box(11.5, 10, 22.5, 28)
    assert [each["name"] for each in alone.elements] == ["Go"]
    covered = compose([(answer(), (0, 0)), (above, (0, 0))], None)
    assert [line.text for line in covered.lines] == ["one"]
    assert not covered.ignored  # nothing of it is seen
    half = compose([(answer(), (0, 0)), (above, (10, 0))], None)
    assert half.ignored == [Box(11.5, 40, 22.5, 58)]
    button = compose([(answer(), (0, 0)), (Layer(Image.new("RGB", (60, 60)), (20, 0)), (0, 0))], None)
    assert button.elements == []


def test_words_that_are_cut_are_ignored() -> None:
    layer = answer()
    layer.texts[0][0] = [0, 0, 50, 60]
    shot = compose([(layer, (0, 0))], None)
    assert [line.text for line in shot.lines] == ["one"]
    assert shot.ignored == [Box(11.5, 40, 22.5, 50)]


@NEEDS_TEXTS
def test_descriptions_and_pages_are_the_same_each_time() -> None:
    icons = {16: [Path("icons/16x16/a/one.png")]}
    first, again = (windows.draw_window(np.random.default_rng(5), icons) for _ in range(2))
    assert first == again
    assert json.dumps(first)
    pages = [terminals.draw_terminal(np.random.default_rng(7)) for _ in range(2)]
    assert pages[0][0].output() == pages[1][0].output()
    assert pages[0][1] == pages[1][1]


@NEEDS_TEXTS
def test_words_of_a_terminal_stand_in_its_grid() -> None:
    page = Page(terminals._Texts(np.random.default_rng(1), "en"), 24, 80)
    page.lines = ["ab \x1b[1;31mcd│ef", "", "── x"]
    assert [tuple(word) for word in page.words()] == [
        ("ab", 0, 0, 2),
        ("cd", 0, 3, 5),
        ("ef", 0, 6, 8),
        ("x", 2, 3, 4),
    ]
    told = grid_answer(page, [20, 20, 520, 400], [22, 22], [6, 13])
    [word, left, right, baseline, size] = told["texts"][-1][2][0]
    assert (word, left, right) == ("x", 22 + 3 * 6, 22 + 4 * 6)
    assert (baseline - 0.85 * size, baseline + 0.25 * size) == pytest.approx((22 + 2 * 13, 22 + 3 * 13))


@NEEDS_TEXTS
@pytest.mark.parametrize("dev", [False, True])
def test_each_monospaced_font_is_there(dev: bool, tmp_path: Path) -> None:
    fonts = native._Fonts(tmp_path, dev=dev)
    files = [file for link in (tmp_path / "fonts").iterdir() for file in link.resolve().rglob("*.[to]t[fcb]")]
    found = {str(ImageFont.truetype(str(file), 16).getname()[0]).lower() for file in files}
    assert {name.lower() for name in fonts.mono} <= found


def test_a_driver_that_ends_or_hangs_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(screen.StoppedError, match="ended: no display"):
        screen.Driver([sys.executable, "-c", "raise SystemExit('no display')"], os.environ).ask({})
    monkeypatch.setattr(screen, "LIMIT", 0.2)
    start = time.monotonic()
    with pytest.raises(screen.StoppedError, match=r"did not answer in 0.2 seconds"):
        screen.Driver([sys.executable, "-c", "import time; time.sleep(60)"], os.environ).ask({})
    assert time.monotonic() - start < 30


@NEEDS_TEXTS
@NEEDS_TOOLKITS
def test_a_driver_that_crashes_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask, asked = screen.Driver.ask, itertools.count(1)

    def crash(driver: screen.Driver, request: dict[str, Any]) -> dict[str, Any]:
        if next(asked) % 3 == 0:
            driver._process.kill()
        return ask(driver, request)

    monkeypatch.setattr(screen.Driver, "ask", crash)
    monkeypatch.setattr(rendered, "CHUNK", 4)
    render(tmp_path, "tk")
    assert len(open_source(str(tmp_path), {})) == 4
    assert next(asked) > 5


@NEEDS_TEXTS
@NEEDS_TOOLKITS
def test_a_driver_that_always_crashes_ends_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(native._COMMANDS, "tk", (sys.executable, "-c", "raise SystemExit('gone')"))
    with pytest.raises(OSError, match=r"^tk: 5 times in a row, .* ended: gone"):
        render(tmp_path, "tk")


@NEEDS_TEXTS
@NEEDS_TOOLKITS
@pytest.mark.parametrize("name", ["gtk3", "gtk4", "qt5", "qt6", "tk"])
def test_menus_headers_and_icons_of_trees_are_found(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(rng: np.random.Generator, icons: windows.Icons) -> windows.Node:
        one, two = map(str, icons[16][:2])
        items = [{"text": "Quit", "mnemonic": -1}]
        menus = [{"text": text, "mnemonic": -1, "items": items} for text in ("File", "Edit")]
        tree = {"k": "table", "head": ["Name", "Size"], "rows": [["first", "1"], ["second", "2"], ["third", "3"]]}
        tree |= {"icons": ["", one, two], "depths": [0, 1, 0], "selected": -1, "right": [1], "grow": True}
        found.update(icons=[Path(one).stem, Path(two).stem])
        body = {"k": "col", "c": [{"k": "menubar", "menus": menus, "open": -1}, tree]}
        return {"title": "Files", "width": 500, "height": 400, "tree": body, "language": "en"}

    found: dict[str, list[str]] = {}
    monkeypatch.setattr(windows, "draw_window", draw)
    monkeypatch.setattr(rendered, "CHUNK", 1)
    render(tmp_path, name)
    example = open_source(str(tmp_path), {})[0]
    names = {role: [o.name for o in example.objects if o.role == role] for role in ("menuitem", "columnheader")}
    assert names == {"menuitem": ["File", "Edit"], "columnheader": ["Name", "Size"]}
    icons = sorted((o for o in example.objects if o.is_icon), key=lambda o: o.box.ymin)
    assert [icon.name for icon in icons] == found["icons"]
    [word] = [line.box for line in example.lines if line.text == "second"]
    assert icons[0].box.xmax <= word.xmin
    assert icons[0].box.ymin < word.ymax
    assert icons[0].box.ymax > word.ymin


@NEEDS_TOOLKITS
@pytest.mark.parametrize("version", ["5", "6"])
def test_arrows_of_trees_are_no_icons(version: str, tmp_path: Path) -> None:
    files = [str(tmp_path / f"{name}.png") for name in ("one", "two")]
    for file in files:
        Image.new("RGB", (16, 16), "#c00").save(file)
    tree = {"k": "table", "head": [], "rows": [["first"], ["second"], ["third"]], "icons": ["", *files]}
    tree |= {"depths": [0, 1, 0], "selected": -1}
    window = {"title": "", "width": 400, "height": 300, "at": [20, 20], "tree": {"k": "col", "c": [tree]}}
    with screen.display() as display:
        environment = {**os.environ, "DISPLAY": display, "QT_QPA_PLATFORM": "xcb"}
        with closing(screen.Driver([screen.PYTHON, "qt.py", version], environment)) as driver:
            for points in range(8, 17):  # Fusion draws some as pictures of an icon's size
                look = {"style": "Fusion", "palette": {}, "font": ["DejaVu Sans", points], "mono": ""}
                icons = driver.ask({**window, "look": look})["icons"]
                assert [(name, x1 - x0) for _, _, name, (x0, _, x1, _) in icons] == [("one", 16), ("two", 16)]


@NEEDS_TEXTS
def test_labels_can_be_read_in_each_language() -> None:
    for language in texts.LANGUAGES:
        drawn = [WindowTexts(np.random.default_rng(i), language).label() for i in range(5)]
        assert all(0 < len(label) <= 48 for label in drawn)


@NEEDS_TEXTS
@NEEDS_TOOLKITS
@pytest.mark.parametrize("name", [name for name in native.WINDOWS if name != "dev-terminal"])
def test_windows_are_samples_of_each_objective(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendered, "CHUNK", 2)
    render(tmp_path, name)
    source = open_source(str(tmp_path), {})
    assert len(source) == 2
    rng, task = np.random.default_rng(0), get_task("ocr")
    for i in range(2):
        example = source[i]
        assert example.lines
        assert FindingEncoder().encode(example, task, Preprocess(1024, 1024), rng)["text"].max() == 1
        assert ReadingEncoder().encode(example, task, Preprocess(32, 512), rng)["characters"].size
        assert len(ElementEncoder(16).encode(example, task, Preprocess(64, 64), rng)["boxes"])
