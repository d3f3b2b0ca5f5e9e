"""Rendered pages: words to lines, PDF files, and what a browser shows, trap by trap."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import nullcontext
from fnmatch import fnmatch
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image, ImageColor
from playwright.sync_api import Browser

from openpali.data.sources.registry import open_source
from openpali.tasks.example import Box
from openpali_lab.worlds.benchmarks import pages
from openpali_lab.worlds.builders import output, packages, page_texts, rendered
from openpali_lab.worlds.builders.icons import SIDE, Icon, render_sheet
from openpali_lab.worlds.builders.layout import Shot, Written, group, has_one_script
from openpali_lab.worlds.builders.manifest import code_hash
from openpali_lab.worlds.builders.pages import build, check_authors, draw, needed, sources
from openpali_lab.worlds.builders.pages.browser import Look, chromium, shoot, site
from openpali_lab.worlds.builders.pages.made import CONTRAST, MadePage
from openpali_lab.worlds.builders.pages.pdf import count_pages, print_page
from openpali_lab.worlds.builders.pages.restyle import restyle
from openpali_lab.worlds.builders.pages.themed import ThemedPage
from openpali_lab.worlds.builders.pages.writer import Page
from openpali_lab.worlds.builders.rendered import LINE, draw_truth, write_shard, write_sheet
from openpali_lab.worlds.builders.texts import Texts, help_sentences

CHROMIUM = shutil.which("chromium")


def word(text: str, left: float, top: float = 0, *, size: float = 10, **more: bool) -> Written:
    """A word of 6 pixels a letter."""
    return Written(text, Box(top, left, top + 1.1 * size, left + 6 * len(text)), size, **more)


def test_words_side_by_side_are_a_line_and_columns_are_not() -> None:
    lines = group([word("one", 0), word("two", 22), word("far", 60), word("below", 0, 14), word("up", 35, 13)])
    assert [line.text for line in lines] == ["one two", "far", "below up"]
    assert lines[0].box == Box(0, 0, 11, 40)
    assert all(line.readable for line in lines)


def test_parts_of_a_word_in_two_styles_are_one_word() -> None:
    [line] = group([word("foo", 0, ends=True), word("bar", 18, joined=True), word("x", 45, joined=True)])
    assert [w.text for w in line.words] == ["foobar", "x"]
    assert line.words[0].box == Box(0, 0, 11, 36)


def test_lines_with_text_from_right_to_left_are_not_for_reading() -> None:
    lines = group([word("ab", 60, rtl=True), word("cd", 42, rtl=True), word("ef", 0, 20)])
    assert [(line.text, line.readable) for line in lines] == [("ab cd", False), ("ef", True)]


def test_words_without_a_size_are_left_out() -> None:
    assert group([Written("x", Box(0, 5, 10, 5), 10)]) == []


def test_a_shot_is_a_record(tmp_path: Path) -> None:
    png = io.BytesIO()
    Image.new("RGB", (50, 40), "white").save(png, "PNG")
    element = {"role": "button", "name": "Save", "box": Box(1, 2, 9, 20), "seen": True}
    elements = [element, {**element, "seen": False}, {**element, "name": ""}]
    icons = [{"name": "fa-cog", "box": Box(20, 2, 30, 12)}, {"name": "", "box": Box(5, 5, 5, 9)}]
    shot = Shot(png.getvalue(), group([word("Save", 2)]), [Box(3, 3, 3, 3), Box(0, 0, 5, 5)], elements, icons)
    with tarfile.open(tmp_path / "x-00000.tar", "w") as shard:
        for name, data in {"a.json": json.dumps(shot.record({"source": "x"})).encode(), "a.png": shot.png}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))
    example = open_source(str(tmp_path), {})[0]
    assert [(o.role, o.name, o.box) for o in example.objects] == [
        ("button", "Save", Box(1, 2, 9, 20)),
        ("button", "button", Box(1, 2, 9, 20)),
        ("icon", "fa-cog", Box(20, 2, 30, 12)),
    ]
    assert [line.text for line in example.lines] == ["Save"]
    assert example.ignored == (Box(0, 0, 5, 5),)


def test_what_nobody_can_read_is_ignored() -> None:
    pixels = np.full((20, 100, 3), 200, np.uint8)
    for left, ink in ((2, 0), (22, 190), (50, 0), (90, 0)):
        pixels[3:12, left : left + 15] = ink
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "png")
    lines = group([word("one", 0, 1), word("pale", 20, 1), word("two", 48, 1), word("cut", 88, 1)])
    things = [{"box": [3, left, 12, left + 15]} for left in (1, 30)]  # nothing is drawn in the second
    shot = Shot(png.getvalue(), lines, [Box(0, 0, 1, 1)], things, things[::-1]).legible()
    assert [line.text for line in shot.lines] == ["one", "two"]
    assert [box.xmin for box in shot.ignored] == [0, 20, 88]
    assert shot.elements == shot.icons == things[:1]


def test_no_package_for_tests_or_of_its_author_is_rendered() -> None:
    held_out = [pattern for patterns in sources.HELD_OUT.values() for pattern in patterns]
    names = {name.rpartition(":")[2] for name in {*needed(), *page_texts.needed()}}
    assert not [name for name in names for each in held_out if fnmatch(name, each)]
    assert {"gentelella", "adminator-admin-dashboard"} <= {*held_out}


@pytest.mark.parametrize(
    ("about", "author"),
    [
        ({"author": {"name": "StartBootstrap"}}, "startbootstrap"),
        ({"homepage": "https://startbootstrap.com/one"}, "startbootstrap"),
        ({"author": "Themesberg"}, "themesberg"),
    ],
)
def test_a_package_of_an_author_whose_packages_are_for_tests_is_not_learned_from(
    about: dict[str, object], author: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path))
    folder = tmp_path / "packages/one"
    folder.mkdir(parents=True)
    for other in ({}, {"author": {"name": "Somebody"}}, {"homepage": "https://example.org"}):
        (folder / "package.json").write_text(json.dumps(other))
        check_authors(["npm:one"])
    (folder / "package.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=f"one is by {author}"):
        check_authors(["npm:one"])


def test_dev_pages_are_apart() -> None:
    sites = [each for name, each in sources.SITES.items() if not name.startswith("dev-")]
    learned = {site.packages[0] for each in sites for site in each.values()}
    assert not learned & {site.packages[0] for site in sources.SITES["dev-themes"].values()}
    assert not set(sources.HELD_OUT_LANGUAGES) & set(sources.ADMIN_LANGUAGES)
    shards = rendered.shards({"one": 100, "two": 48, "three": 480})
    assert sorted(shards) == sorted(
        [*(("one", i) for i in range(3)), ("two", 0), *(("three", i) for i in range(10))]
    )
    assert [name for name, _ in shards[4:7]].count("one") == 1  # sets take turns


def test_a_detector_learns_from_each_set_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path))
    folder = tmp_path / "data/pages"
    folder.mkdir(parents=True)
    for name in ("themes-00000", "themes-00001", "dev-themes-00000", "dev-pdf-00000", "help-00000"):
        shutil.copy(pages.DOCUMENTS, folder / f"{name}.tar")
    [screens] = [each for each in pages.page_suite() if each.name == "real/screens"]
    assert [len(source) for source in screens.learnt(tmp_path)] == [20, 40]
    assert len(screens.calibration(tmp_path)) == 40


def test_sets_to_test_on_are_small() -> None:
    tars = [*Path(pages.__file__).parent.glob("*.tar")]
    assert len(tars) >= 5
    assert sum(tar.stat().st_size for tar in tars) <= 12e6


# ---- PDF files


@pytest.fixture(scope="module")
def pdf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of 4 x 3 inches with two lines, upright text and text that is not."""
    figure = pyplot.figure(figsize=(4, 3))
    figure.text(0.1, 0.8, "Hello fine world", size=14)
    figure.text(0.1, 0.5, "second", size=10)
    figure.text(0.8, 0.3, "turned", size=10, rotation=90)
    path = tmp_path_factory.mktemp("pdf") / "page.pdf"
    with pyplot.rc_context({"pdf.fonttype": 42}):
        figure.savefig(path)
    pyplot.close(figure)
    return path


@pytest.mark.parametrize("dpi", [72, 144])
def test_lines_of_a_pdf_stand_where_they_are_drawn(pdf: Path, dpi: float) -> None:
    assert count_pages(pdf) == 1
    shot = print_page(pdf, 0, dpi)
    image = np.asarray(Image.open(io.BytesIO(shot.png)).convert("L"))
    assert image.shape == (round(3 * dpi), round(4 * dpi))
    assert [line.text for line in shot.lines] == ["Hello fine world", "second"]
    for line, size in zip(shot.lines, (14, 10), strict=True):
        box = line.box
        assert box.ymax - box.ymin == pytest.approx(1.1 * size * dpi / 72, rel=0.02)
        ink = np.argwhere(image[: round(0.6 * 3 * dpi)] < 128)
        inside = ink[(ink[:, 0] >= box.ymin) & (ink[:, 0] < box.ymax)]
        assert inside[:, 1].min() == pytest.approx(box.xmin, abs=dpi / 36)
        assert inside[:, 1].max() == pytest.approx(box.xmax, abs=dpi / 36)
    assert len(shot.ignored) == len("turned")


def test_slender_and_combined_characters_do_not_end_words_of_a_pdf(tmp_path: Path) -> None:
    figure = pyplot.figure(figsize=(4, 3))
    figure.text(0.1, 0.8, "in foo.txt, yes", size=14, family="DejaVu Sans Mono")
    figure.text(0.1, 0.5, "A\u0300 Roma", size=14)
    with pyplot.rc_context({"pdf.fonttype": 42}):
        figure.savefig(tmp_path / "page.pdf")
    pyplot.close(figure)
    words = [[word.text for word in line.words] for line in print_page(tmp_path / "page.pdf", 0, 100).lines]
    assert words == [["in", "foo.txt,", "yes"], ["A\u0300", "Roma"]]


def test_a_pdf_can_be_light_on_dark(pdf: Path) -> None:
    image = Image.open(io.BytesIO(print_page(pdf, 0, 72, inverted=True).png))
    assert image.getpixel((0, 0)) == (0, 0, 0)


# ---- a browser


PAGE = """<!doctype html><html lang="el"><head><meta charset="utf-8"><style>
  body { font: 16px 'DejaVu Sans', sans-serif; margin: 10px; } div { margin: 6px 0; }
  .cut { width: 60px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
  .over { position: relative; } .over i { position: absolute; inset: 0; background: #888; }
  .count::before { content: "Chapter 1 "; } .fade { opacity: 0; } #tall { height: 2000px; }
  .floats { float: left; width: 24px; } .floats::before { content: "\\e001"; }
  p { position: relative; margin: 6px 0; }
</style></head><body>
  <div style="text-transform: uppercase">άλφα <b>be</b>ta</div>
  <div class="cut">hidden by dots at its end</div>
  <div class="over">covered<i></i></div>
  <div class="fade">faded</div>
  <div class="count">counted</div>
  <ol><li>item</li></ol>
  <select multiple size="2" style="width: 150px"><option>listed</option></select><input type="date" value="">
  <input value="typed text"><button aria-label="Close">x</button>
  <a href="#"><svg width="16" height="16"><rect width="16" height="16"/></svg></a>
  <div><i class="floats fa-home"></i><p class="over">beside<i class="fade"></i></p></div>
  <div class="over">&nbsp;<b class="floats fa-lost"></b><i></i></div>
  <div style="width: 70px">word-which-breaks</div>
  <div style="display: flex; gap: 60px"><span>left</span><span>right</span></div>
  <img src="none.png" alt="missing" width="40" height="20">
  <div id="tall"></div><div>below</div>
</body></html>"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def shots_of(page: str, folder: Path, browser: Browser, look: Look, *scrolls: float) -> list[Shot]:
    """A page as a browser shows it, by default from its top."""
    (folder / "page.html").write_text(page, "utf-8")
    with site([folder]) as address:
        return list(shoot(browser, f"{address}/page.html", look, [*scrolls] or [0]))


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> dict[str, list[Shot]]:
    folder = tmp_path_factory.mktemp("site")
    looks = {"plain": Look(500, 400), "dark": Look(500, 400, scale=1.5, dark=True)}
    return {name: shots_of(PAGE, folder, browser, look, 0, 0, 1) for name, look in looks.items()}


needs_browser = pytest.mark.skipif(
    not (CHROMIUM or os.environ.get("OPENPALI_BROWSER")), reason="no Chromium here: apt-get install chromium"
)


@needs_browser
def test_what_one_sees_is_what_is_written(shots: dict[str, list[Shot]]) -> None:
    first, last = shots["plain"]  # the same place is shown once
    texts = [line.text for line in first.lines]
    assert texts[0] == "ΑΛΦΑ BETA"  # Greek capitals have no accents
    for text in ("counted", "item", "typed text", "left", "right", "x", "beside"):
        assert text in texts
    assert not {"covered", "faded", "missing", "below"} & set(texts)
    assert not [text for text in texts if "end" in text]  # cut off by dots
    assert "".join(text for text in texts if "-" in text or text == "breaks") == "word-which-breaks"
    assert "word-which-breaks" not in texts
    assert [line.text for line in last.lines] == ["below"]


@needs_browser
@pytest.mark.parametrize("name", ["plain", "dark"])
def test_boxes_stand_around_the_ink(shots: dict[str, list[Shot]], name: str) -> None:
    shot = shots[name][0]
    image = np.asarray(Image.open(io.BytesIO(shot.png)).convert("L")).astype(int)
    assert (image[1, 1] < 100) == (name == "dark")
    for line in shot.lines:
        ymin, xmin, ymax, xmax = line.box
        around = image[round(ymin) : round(ymax), round(xmin) : round(xmax)]
        ink = np.abs(around - np.median(around)) > 60
        assert ink.any(), line.text
        rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
        assert rows[0] < 0.45 * ink.shape[0]
        assert rows[-1] > 0.6 * ink.shape[0]
        assert columns[0] < 5
        assert columns[-1] > ink.shape[1] - 6


@needs_browser
def test_elements_have_roles_and_names(shots: dict[str, list[Shot]]) -> None:
    shot = shots["plain"][0]
    found = {(e["role"], e["name"]) for e in shot.elements if e["seen"]}
    assert ("button", "Close") in found
    assert "textbox" in {role for role, _ in found}
    assert [icon["name"] for icon in shot.icons] == ["", "fa-home"]  # a paragraph reaches over the last
    fields = {e["role"]: e["box"] for e in shot.elements}
    assert fields["listbox"] in shot.ignored  # its options are drawn by the browser
    assert len(shot.ignored) >= 4  # a list, a date, text that is cut, and the image


MENU = """<!doctype html><html lang="en"><meta charset="utf-8"><body style="font: 16px 'DejaVu Sans'">
  <a href="#">leads</a> <a href="#" data-toggle="tooltip">hints</a>
  <a href="#" role="link" aria-expanded="true">says</a>
  <a href="#" data-bs-toggle="dropdown">drops</a> <a href="#" aria-expanded="false">expands</a>
  <a href="#" data-toggle="tab">chooses</a> <a href="javascript:;"><svg width="16" height="16"></svg></a>
  <a href="javascript:;"><i style="font-family: 'Material Icons'">more_vert</i></a>
  <ul><li><a href="#">opens</a><ul><li><a href="#">within</a></li></ul></li></ul>
</body></html>"""


@needs_browser
def test_a_link_that_opens_a_menu_is_a_button(tmp_path: Path, browser: Browser) -> None:
    [shot] = shots_of(MENU, tmp_path, browser, Look(500, 300))
    roles = {role: {e["name"] for e in shot.elements if e["role"] == role} for role in ("link", "button", "tab")}
    assert roles == {
        "link": {"leads", "hints", "says", "within"},
        "button": {"drops", "expands", "opens", "", "more_vert"},
        "tab": {"chooses"},
    }


@needs_browser
def test_an_inline_link_reaches_around_what_it_holds(tmp_path: Path, browser: Browser) -> None:
    page = """<style>
      body { margin: 20px; font: 12px 'DejaVu Sans' }
      i { display: inline-block; width: 40px; height: 30px }
      b { position: absolute; left: -900px }
      s { display: inline-block; overflow: hidden; width: 20px; height: 20px }
    </style><a href="#"><i></i><b>x</b><s><img width="300" height="90" src="none.png"></s></a>"""
    [shot] = shots_of(page, tmp_path, browser, Look(200, 100))
    [link] = (each for each in shot.elements if each["role"] == "link")
    assert link["seen"]
    assert 30 <= link["box"].ymax - link["box"].ymin <= 40
    assert link["box"].xmax - link["box"].xmin <= 80


STYLED = """<!doctype html><html lang="en"><meta charset="utf-8"><body>
  <nav><a href="#a">Overview</a> <a href="#b">Settings</a></nav><h2>Members</h2>
  <p>See the <a href="#c">manual</a> first.</p><button>Save</button> <input aria-label="Name">
  <table><tr><th>City</th><th>Size</th></tr><tr><td>Oslo</td><td>42</td></tr></table>
</body></html>"""


@needs_browser
def test_another_look_of_a_page_says_the_same(tmp_path: Path, browser: Browser) -> None:
    def said(shot: Shot) -> tuple[set[str], set[tuple[str, str]]]:
        words = {word.text.lower() for line in shot.lines for word in line.words}
        return words, {(each["role"], each["name"].lower()) for each in shot.elements}

    looks = [Look(600, 400, style=restyle(np.random.default_rng(seed))) for seed in range(8)]
    [plain] = shots_of(STYLED, tmp_path, browser, Look(600, 400))
    styled = [shot for look in looks for shot in shots_of(STYLED, tmp_path, browser, look)]
    assert all(said(shot) == said(plain) for shot in styled)
    assert len({shot.png for shot in [plain, *styled]}) == 9
    assert restyle(np.random.default_rng(0)) == looks[0].style


HIDDEN = """<!doctype html><html lang="en"><meta charset="utf-8"><style>
  body { margin: 0; font: 16px 'DejaVu Sans' }
  div { position: relative; height: 40px; padding-left: 40px }
  input { position: absolute; opacity: 0 }
  .gone { visibility: hidden }
  .drawn::before { content: ""; position: absolute; left: 6px; top: 4px; width: 20px; height: 18px }
  .drawn::before { border: 1px solid }
  .moved::before { box-sizing: border-box; top: 50%; transform: translateY(-50%) }
  i { position: absolute; left: 5px; top: 3px; width: 40px; height: 20px; background: green }
</style><body>
  <div><label class="drawn"><input type="checkbox">label</label></div>
  <div><label><input class="gone" type="radio"><span class="drawn moved">span</span></label></div>
  <div style="padding-left: 60px"><input type="checkbox" role="switch"><i></i>beside</div>
  <div><label><input type="checkbox">text alone</label></div>
</body></html>"""


@needs_browser
def test_a_hidden_check_box_is_where_its_stand_in_is(tmp_path: Path, browser: Browser) -> None:
    [shot] = shots_of(HIDDEN, tmp_path, browser, Look(500, 300))
    places = {each["role"]: [round(edge) for edge in each["box"]] for each in shot.elements if each["seen"]}
    assert places == {"checkbox": [4, 6, 24, 28], "radio": [51, 6, 69, 26], "switch": [83, 5, 103, 45]}


@needs_browser
def test_what_a_page_takes_from_another_host_is_of_its_own_site(tmp_path: Path, browser: Browser) -> None:
    (tmp_path / "style.css").write_text("button { width: 123px }")
    page = '<link rel=stylesheet href="https://x.example.org/{}?v=1"><button>Go</button>'
    [[found], [missing]] = (
        shots_of(page.format(path), tmp_path, browser, Look(300, 200)) for path in ("1.0/style.css", "other.css")
    )
    wide, narrow = (shot.elements[0]["box"] for shot in (found, missing))
    assert wide[3] - wide[1] == 123 > narrow[3] - narrow[1]


def test_a_site_is_of_several_packages(tmp_path: Path) -> None:
    for name, path in (
        ("site", "index.html"),
        ("styles", "dist/css/style.css"),
        ("icons", "css/icons.css"),
        (".", "site/hidden.html"),
        (".", "own.html"),
    ):
        (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name / path).write_text(name)
    folders = [tmp_path / "site", tmp_path / "styles", tmp_path / "icons"]
    with site(folders, ("hidden.html",), {"icon": "css/icons.css"}) as address:
        for path, name in (
            ("index.html", "site"),
            ("dist/css/style.css?v=2", "styles"),
            ("node_modules/styles/dist/css/style.css", "styles"),
            ("node_modules/@owner/icons/css/icons.css", "icons"),
            ("plugins/icons/css/icons.css", "icons"),
            ("cdn/icons.example.org/4.1/css/icons.css", "icons"),
            ("cdn/example.org/npm/icons@4/css/icons.css", "icons"),
            ("cdn/fonts.example.org/icon?family=some", "icons"),
        ):
            with urlopen(f"{address}/{path}") as answer:
                assert answer.read().decode() == name
        for path in ("hidden.html", "css/style.css", "../own.html", "node_modules/../../own.html"):
            with pytest.raises(HTTPError):
                urlopen(f"{address}/{path}")


def test_a_machine_without_chromium_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(FileNotFoundError, match="apt-get install chromium"), chromium():
        pass


def test_a_shard_is_a_function_of_its_name(tmp_path: Path, pdf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "package"
    (root / "usr/share/doc/texlive-doc").mkdir(parents=True)
    for number in range(20):
        shutil.copy(pdf, root / f"usr/share/doc/texlive-doc/{number}.pdf")
    monkeypatch.setattr(packages, "fetch", lambda name: root)
    monkeypatch.setattr(rendered, "CHUNK", 2)
    for folder in ("a", "b", "dev"):
        (tmp_path / folder).mkdir()
    for folder in ("a", "b"):
        write_shard(tmp_path / folder / "pdf-00003.tar", "pages", "pdf", 3, draw)
    assert (tmp_path / "a/pdf-00003.tar").read_bytes() == (tmp_path / "b/pdf-00003.tar").read_bytes()
    write_shard(tmp_path / "dev/dev-pdf-00000.tar", "pages", "dev-pdf", 0, draw)
    held_out = {
        source.record(i).about["page"] for source in [open_source(str(tmp_path / "dev"), {})] for i in range(2)
    }
    learned = {
        source.record(i).about["page"] for source in [open_source(str(tmp_path / "a"), {})] for i in range(2)
    }
    assert not held_out & learned
    example = open_source(str(tmp_path / "a"), {})[1]
    assert example.lines[0].text.startswith("Hello")
    write_sheet(tmp_path / "a")
    assert Image.open(tmp_path / "a" / "sheet.png").width > 2 * example.size.width - 2
    box, drawn = example.lines[0].box, draw_truth(example)
    middle = round((box.ymin + box.ymax) / 2)
    assert drawn.getpixel((round(box.xmin), middle)) == ImageColor.getrgb(LINE)


def test_a_build_goes_on_where_it_was_stopped(tmp_path: Path, pdf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path / "home"))  # for other processes, too
    folder = tmp_path / "home/packages/texlive-latex-recommended-doc/usr/share/doc/texlive-doc"
    folder.mkdir(parents=True)
    for number in range(20):
        shutil.copy(pdf, folder / f"{number}.pdf")
    monkeypatch.setattr(rendered, "shards", lambda windows: [("pdf", 0), ("pdf", 1)])
    monkeypatch.setattr("openpali_lab.worlds.builders.pages.chromium", nullcontext)

    def stop(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rendered, "write_sheet", stop)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path)
    monkeypatch.setattr(rendered, "write_sheet", lambda folder: None)
    monkeypatch.setattr(output, "ProcessPoolExecutor", None)  # nothing is left to do
    (tmp_path / "built").mkdir()
    build(tmp_path / "built")
    assert sorted(path.name for path in (tmp_path / "built").iterdir()) == ["pdf-00000.tar", "pdf-00001.tar"]
    assert not [*(tmp_path / "home/data").iterdir()]


def test_parts_of_another_renderer_are_not_taken_up(tmp_path: Path) -> None:
    for name in ("__init__.py", "truth.js", "prepare.css"):
        (tmp_path / name).write_text("one")
    versions = [code_hash(tmp_path / "__init__.py")]
    for name in ("__init__.py", "truth.js", "prepare.css"):
        (tmp_path / name).write_text("two")
        versions.append(code_hash(tmp_path / "__init__.py"))
    assert len({*versions}) == 4


@needs_browser
def test_icons_are_rendered_in_black(browser: Browser) -> None:
    bodies = ('<path fill="url(#none)" d="M4 4h8v8H4z"/>', '<path d="M4 4h8v8H4z"/>')
    icons = [Icon("a", "x", "x", f'<svg viewBox="0 0 16 16">{body}</svg>') for body in bodies * 20]
    images = render_sheet(browser, icons)
    assert images.shape == (40, SIDE, SIDE)
    assert images[::2].max() == 0
    assert images[1::2, 16:48, 16:48].min() == 255
    assert (images[1::2] > 0).sum() == 20 * 32**2


def made_pages(folder: Path, themed: bool, count: int) -> Iterator[Page]:
    (folder / "a.html").write_text(f"<p>Einige <b>W&ouml;rter</b> stehen da. {'Hier noch mehr. ' * 9}", "utf-8")
    (folder / "icon.svg").write_text("<svg></svg>")
    for seed in range(count):
        rng = np.random.default_rng(seed)
        texts, icons = Texts(rng, "de", help_sentences(folder, rng)), [folder / "icon.svg"]
        yield ThemedPage(texts, icons, ["one.css", "two.css"]) if themed else MadePage(texts, icons)


@pytest.mark.parametrize("themed", [False, True])
def test_made_pages_show_the_words_of_a_manual_and_say_what_they_show_or_leave_it_out(
    tmp_path: Path, themed: bool
) -> None:
    code = {"heading": r"<h[1-6] ", "tab": "role=tab ", "progressbar": "role=progressbar"}
    left_out, said, entries, marked = set(), set(), 0, 0
    again = made_pages(tmp_path, themed, 30)
    for page in made_pages(tmp_path, themed, 30):
        html = page.html()
        assert html == next(again).html()
        assert "Wörter" in html
        assert '<html lang="de"' in html
        assert not themed or re.search('href="/(one|two).css"', html)
        found = {role for role, pattern in code.items() if re.search(pattern, html)}
        assert not found & page.unsaid
        left_out |= page.unsaid
        said |= found
        menu = page.menu()
        for text in menu.split("stroke:currentColor")[:-1]:  # what has a mark in a menu is a button
            opening = re.findall(r"<(?:a|button) [^>]*>", text)[-1]
            assert opening.startswith("<button") or "role=" in opening
            marked += 1
        entries += menu.count("<a ")
    assert left_out == said == code.keys()
    assert marked > 30 < entries


def test_made_text_differs_from_its_ground(tmp_path: Path) -> None:
    for page in made_pages(tmp_path, False, 200):
        assert isinstance(page, MadePage)
        _, ground = page.ground()
        ink = page.ink(ground)
        red, green, blue = (int(ink[i : i + 2], 16) / 255 for i in (1, 3, 5))
        lightness = (max(red, green, blue) + min(red, green, blue)) / 2
        assert abs(lightness - ground) > CONTRAST - 0.01


@pytest.mark.parametrize(
    ("text", "one"), [("Straße", True), ("50μm", True), ("Кириллица", True), ("AΝΜЕRKUNG", False)]
)
def test_words_of_two_scripts_are_wrong(text: str, one: bool) -> None:
    assert has_one_script(text) == one
