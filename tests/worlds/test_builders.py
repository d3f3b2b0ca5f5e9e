"""Packages and builders, without a network: tiny stand-ins for downloaded packages."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image

from openpali.data.sources.registry import open_source
from openpali.home import FONTS, data_folder, home
from openpali_lab.worlds.builders import clipart, emoji, lines, manifest, ood, output, packages, page_texts, stamps
from openpali_lab.worlds.builders.base import Dataset, build, datasets, expect, named
from openpali_lab.worlds.builders.output import add_sample, write_shards
from openpali_lab.worlds.builders.pages.sources import Site
from openpali_lab.worlds.builders.stamps import clean_caption, language_code, looks_photographed, read_captions
from openpali_lab.worlds.sources import open_rendered


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_home_is_named_by_the_environment(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home() == cache
    monkeypatch.setenv("OPENPALI_HOME", "~/elsewhere")
    assert home() == Path.home() / "elsewhere"
    monkeypatch.setenv("OPENPALI_HOME", "here")  # other processes work elsewhere
    assert home() == Path.cwd() / "here"
    monkeypatch.delenv("OPENPALI_HOME")
    assert home() == Path.home() / ".cache" / "openpali"


# ---- packages


class Managers:
    """A fake ``subprocess.run`` that acts as apt-get, dpkg-deb, pip and npm, and records their commands."""

    def __init__(self, *, lists: bool = True, known: bool = True) -> None:
        self.lists, self.known, self.asked = lists, known, []

    def __call__(self, command: list[str], cwd: Path, **_: object) -> subprocess.CompletedProcess[str]:
        self.asked.append(command[:2] if command[0] != packages.sys.executable else ["pip", command[3]])
        failed = subprocess.CompletedProcess(command, 100, "", "noise\nE: Unable to locate package\n")
        match self.asked[-1]:
            case ["apt-get", "update"]:
                self.lists = True
            case ["apt-get", "download"]:
                if not (self.lists and self.known):
                    return failed
                (cwd / "thing_1%3a2-3_all.deb").write_bytes(b"deb")
            case ["dpkg-deb", "-x"]:
                (Path(command[3]) / "usr/share").mkdir(parents=True)
            case ["npm", "pack"]:
                if not self.known:
                    return failed
                with tarfile.open(cwd / "thing-1.tgz", "w:gz") as archive:
                    for name, content in (("data.txt", b"hello"), ("package.json", b'{"version": "1"}')):
                        member = tarfile.TarInfo(f"package/{name}")
                        member.size = len(content)
                        archive.addfile(member, io.BytesIO(content))
            case ["pip", "download"]:
                if not self.known:
                    return failed
                with zipfile.ZipFile(cwd / "thing-1-py3-none-any.whl", "w") as wheel:
                    wheel.writestr("thing/data.txt", "hello")
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.shutil, "which", lambda tool: f"/usr/bin/{tool}")


@pytest.mark.usefixtures("tools")
def test_a_debian_package_is_fetched_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.subprocess, "run", managers := Managers())
    folder = packages.fetch("thing")
    assert folder == cache / "packages" / "thing"
    assert (folder / "usr/share").is_dir()
    assert managers.asked == [["apt-get", "download"], ["dpkg-deb", "-x"]]
    assert packages.fetch("thing") == folder
    assert len(managers.asked) == 2
    assert [path.name for path in folder.parent.iterdir()] == ["thing"]  # no other files are left


@pytest.mark.usefixtures("tools")
def test_package_lists_are_fetched_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.subprocess, "run", managers := Managers(lists=False))
    packages.fetch("thing")
    assert [words[1] for words in managers.asked] == ["download", "update", "download", "-x"]


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("package", ["thing", "pypi:thing", "npm:thing"])
def test_a_failed_download_says_why_and_leaves_nothing(
    package: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages.subprocess, "run", Managers(known=False))
    with pytest.raises(FileNotFoundError, match=r"package thing cannot be fetched.*: E: Unable to locate package$"):
        packages.fetch(package)
    assert list((cache / "packages").iterdir()) == []


def test_a_wheel_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.subprocess, "run", managers := Managers())
    assert (packages.fetch("pypi:thing") / "thing/data.txt").read_text() == "hello"
    packages.fetch("pypi:thing")
    assert managers.asked == [["pip", "download"]]


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("name", ["thing", "@scope/thing"])
def test_an_npm_package_is_unpacked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.subprocess, "run", managers := Managers())
    assert (packages.fetch(f"npm:{name}") / "data.txt").read_text() == "hello"
    packages.fetch(f"npm:{name}")
    assert managers.asked == [["npm", "pack"]]


def test_a_machine_without_apt_is_told_what_to_do_instead(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.shutil, "which", lambda tool: None)
    for ask in (packages.fetch, lambda name: expect(["wordnet", "fashion-mnist", "easy-vqa"])):
        with pytest.raises(FileNotFoundError, match=r"^apt-get is missing") as caught:
            ask("wordnet-base")
        assert f"-v {cache / 'packages'}:/packages" in str(caught.value)
    assert "(2 are needed)" in str(caught.value)
    assert "apt-get download wordnet-base dataset-fashion-mnist && for deb" in str(caught.value)
    expect(["easy-vqa"])  # needs no apt-get
    (cache / "packages/wordnet-base").mkdir(parents=True)  # copied from elsewhere
    expect(["wordnet"])


def test_an_environment_without_npm_or_pip_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.shutil, "which", lambda tool: None)
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    for name, fix in (
        ("npm:emoji-datasource-twitter", r"npm is missing, .* install Node\.js with npm"),
        ("pypi:easy-vqa", "this environment has no pip, .* run `python -m ensurepip`"),
    ):
        with pytest.raises(FileNotFoundError, match=fix):
            packages.fetch(name)


# ---- the registry


def test_a_set_is_built_once_and_whole(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def builder(folder: Path) -> None:
        nonlocal calls
        calls += 1
        (folder / "half.txt").write_text(str(calls))
        assert not (cache / "data" / "toy").exists() or calls > 1
        if calls == 3:
            raise OSError("disk full")

    monkeypatch.setitem(datasets(), "toy", Dataset(builder))
    assert (build("toy") / "half.txt").read_text() == "1"
    assert (build("toy") / "half.txt").read_text() == "1"
    assert (build("toy", force=True) / "half.txt").read_text() == "2"
    with pytest.raises(OSError):
        build("toy", force=True)
    assert (cache / "data" / "toy" / "half.txt").read_text() == "2"  # the old one stays
    assert [path.name for path in (cache / "data").iterdir()] == ["toy"]


@pytest.fixture
def shards(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set ``toy`` of the sets a and b, of the package thing; returns the folder of committed manifests."""

    def builder(folder: Path) -> None:
        for name, count in (("a", 2), ("a-b", 1)):
            with tarfile.open(folder / f"{name}-00000.tar", "w") as shard:
                for number in range(count):
                    add_sample(shard, f"{name}-{number}", {"json": b"{}", "txt": name.encode()})

    manifests = cache / "manifests"
    manifests.mkdir(parents=True)
    monkeypatch.setattr(manifest, "_COMMITTED", manifests)
    monkeypatch.setattr(packages.subprocess, "run", Managers())
    toy = Dataset(builder, lambda: ["thing"], sets={"a": 3, "a-b": 1})
    monkeypatch.setitem(datasets(), "toy", toy)
    return manifests


@pytest.mark.usefixtures("tools")
def test_a_build_writes_its_manifest_and_says_what_differs_from_the_committed_one(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    file = build("toy", tell=told.append) / "manifest.json"
    whole = json.loads(file.read_text())
    assert whole["packages"] == {"thing": "1:2-3"}
    assert {name: (each["version"], each["samples"]) for name, each in whole["sets"].items()} == {
        "a": (3, 2),
        "a-b": (1, 1),
    }
    assert told == []  # nothing is committed
    shutil.copy(file, shards / "toy.json")
    build("toy", force=True, tell=told.append)
    assert told == []
    assert json.loads(file.read_text()) == whole  # the same bytes
    whole["packages"]["thing"] = "1:2-2"
    whole["sets"]["a"]["sha256"] = "0"
    whole["generator"] = "other"
    (shards / "toy.json").write_text(json.dumps(whole))
    build("toy", force=True, tell=told.append)
    package, code, files = told
    assert "thing is 1:2-3 here, and was 1:2-2" in package
    assert "code" in code
    assert "set a " in files


@pytest.mark.usefixtures("tools", "shards")
def test_a_source_is_an_exact_name_and_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build("toy")
    for name in ("toy/a@3", "toy/a"):  # not a-b, too
        assert len(open_rendered(name, {})) == 2
    shutil.copy(folder / "a-00000.tar", folder / "a-00001.tar")
    assert [len(open_rendered("toy/a", options)) for options in ({}, {"shards": 1}, {"shards": 2})] == [4, 2, 4]
    with pytest.raises(FileNotFoundError, match=r"a-00002\.tar"):
        open_rendered("toy/a", {"shards": 3})
    (folder / "a-00001.tar").unlink()
    for name, wrong in (
        (
            "toy/a@2",
            r"toy/a@2: what is built has version 3: run `openpali data build toy --force`, or name .* toy/a,",
        ),
        ("toy/a@new", "has version 3"),
        ("toy/a*", "there is no source toy/a\\*"),
        ("toy/a-c@1", "did you mean 'a-b'"),
        ("toy", "there is no source"),
    ):
        with pytest.raises(ValueError, match=wrong):
            open_rendered(name, {})
    (folder / "manifest.json").unlink()  # built before there were versions
    assert len(open_rendered("toy/a@1", {})) == 2
    with pytest.raises(ValueError, match="has version 1"):
        open_rendered("toy/a@3", {})


@pytest.mark.usefixtures("tools")
def test_downloads_and_minutes_are_announced_before_and_followed(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Managers()
    monkeypatch.setattr(packages.subprocess, "run", asked)
    monkeypatch.setitem(datasets(), "wordnet", replace(datasets()["wordnet"], build=lambda folder: None))
    assert expect(["wordnet"]) == (
        "to build: wordnet; to download: at most 7 MB in 1 package; expected: less than a minute at 5 MB/s"
    )
    assert "to download: at most 720 MB in 62 packages; expected: about 6 minutes" in expect(named("all"))
    lines: list[str] = []

    @contextmanager
    def working(what: str) -> Iterator[None]:
        lines.append(what)
        assert len(asked.asked) == 2 * (len(lines) - 1)  # each line comes before what it announces
        yield

    build("wordnet", working=working)
    assert lines == [
        "wordnet: downloading wordnet-base (1 of 1)",
        "wordnet: building, less than a minute",
    ]
    assert expect(["wordnet"]) == "everything is built already; --force builds it again"
    assert "to download: nothing" in expect(["wordnet"], force=True)
    build("wordnet", working=working)
    assert len(lines) == 2


def test_what_a_data_set_is_built_from_is_built_first(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    for name in ("stamps", "clipart", "nano-vocabulary"):
        parts = datasets()[name].parts
        made = Dataset(lambda folder, name=name: built.append(name), parts=parts)
        monkeypatch.setitem(datasets(), name, made)
    assert "to build: stamps, clipart, nano-vocabulary;" in expect(["nano-vocabulary"])
    build("nano-vocabulary")
    build("nano-vocabulary", force=True)
    assert built == ["stamps", "clipart", "nano-vocabulary", "nano-vocabulary"]
    assert "to build: nano-vocabulary;" in expect(["nano-vocabulary"], force=True)


def test_every_data_set_tells_its_size_and_its_minutes() -> None:
    for each in datasets().values():
        assert each.minutes
        assert bool(each.megabytes) == bool(each.needed())


def test_unknown_and_unbuilt_sets_are_named() -> None:
    for ask, name, kind, fix in (
        (build, "stamp", ValueError, "did you mean 'stamps'"),
        (data_folder, "stamps", FileNotFoundError, "run `openpali data build stamps`"),
    ):
        with pytest.raises(kind, match=fix):
            ask(name)


def test_shards_are_split_and_always_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "SAMPLES_PER_SHARD", 3)
    contents = []
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
        write_shards(tmp_path / run, "x", ((f"k{i}", {"txt": b"%d" % i, "json": b"{}"}) for i in range(7)))
        shards = sorted((tmp_path / run).iterdir())
        assert [shard.name for shard in shards] == ["x-00000.tar", "x-00001.tar", "x-00002.tar"]
        contents.append([shard.read_bytes() for shard in shards])
    assert contents[0] == contents[1]
    with tarfile.open(tmp_path / "one" / "x-00001.tar") as shard:
        assert shard.getnames() == ["k3.txt", "k3.json", "k4.txt", "k4.json", "k5.txt", "k5.json"]
        assert shard.extractfile("k4.txt").read() == b"4"


# ---- captions and images


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("A frog.", "A frog"),
        ("青蛙。", "青蛙"),
        ("एक मेंढक|", "एक मेंढक"),
        ("एक मेंढक।", "एक मेंढक"),
        ("みどりいろの りんご！ ", "みどりいろの りんご"),
        ("  a \u3000 b ", "a b"),
        ("e\u0301", "é"),
        ("A 3.5 volt cell", "A 3.5 volt cell"),
    ],
)
def test_captions_are_cleaned(raw: str, clean: str) -> None:
    assert clean_caption(raw) == clean


def test_captions_are_read_by_language() -> None:
    lines = ["A frog.", "de.utf8=Ein Frosch.", "pt_BR.utf8=Um sapo.", "sr@latin.utf8=Žaba.", "ga.utf8= .", "?"]
    assert read_captions("\n".join([*lines, "zh_CN.utf8=青蛙。\n"])) == {
        "en": "A frog",
        "de": "Ein Frosch",
        "pt-BR": "Um sapo",
        "sr-Latn": "Žaba",
        "zh": "青蛙",
    }
    assert [language_code(c) for c in ("zh_TW", "ca@valencia", "kab")] == ["zh-Hant", "ca-valencia", "kab"]


def test_photographs_are_distinguished_from_drawings() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (40, 40, 4), dtype=np.uint8)
    noise[..., 3] = 255
    flat = np.full((40, 40, 4), 255, np.uint8)
    assert looks_photographed(noise)
    assert not looks_photographed(flat)
    assert not looks_photographed(flat * np.array([1, 1, 1, 0], np.uint8))


# ---- builders on stand-in packages


def write_image(path: Path, size: tuple[int, int], mode: str = "RGBA") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, "red" if mode != "L" else 40).save(path)


def package(root: Path, name: str) -> Path:
    name = name.rpartition(":")[2]
    document = root / name / "usr/share/doc" / name / "copyright"
    document.parent.mkdir(parents=True, exist_ok=True)
    document.write_text(f"terms of {name}")
    return root / name


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "packages"
    monkeypatch.setattr(packages, "fetch", lambda name: package(root, name))
    return root


def test_stamps(debian: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = package(debian, "tuxpaint-stamps-default") / "usr/share/tuxpaint/stamps"
    write_image(root / "animals/mammals/cats/cartoon/lion.png", (400, 200))
    (root / "animals/mammals/cats/cartoon/lion.txt").write_text("A lion.\nde.utf8=Ein Löwe.\n", "utf-8")
    (root / "animals/mammals/cats/cartoon/lion.dat").write_text("nomirror\n")
    write_image(root / "animals/mammals/cats/cartoon/lion_mirror.png", (400, 200))
    write_image(root / "food/apple.png", (20, 30), "L")
    (root / "food/apple.txt").write_text("An apple!\n")
    (root / "food/drawing.svg").write_text("<svg/>")
    (root / "food/drawing.txt").write_text("A drawing.\n")
    font = package(debian, "fonts-x") / "usr/share/fonts/truetype/x/X-Regular.ttf"
    font.parent.mkdir(parents=True)
    font.write_bytes(b"font")
    words = package(debian, "wx") / "usr/share/dict/x"
    words.parent.mkdir(parents=True)
    words.write_text("zoo\nZürich\nbär\nant's\nextraordinarily\nzoo\n", "utf-8")
    monkeypatch.setattr(stamps, "FONTS", {"Latn": {"fonts-x": ["X-Regular"]}})
    monkeypatch.setattr(stamps, "WORD_LISTS", {"de": ("wx", "x")})
    folder = build("stamps")
    with tarfile.open(folder / "stamps-00000.tar") as shard:
        keys = ["animals-mammals-cats-cartoon-lion", "food-apple"]
        assert shard.getnames() == [f"{key}.{part}" for key in keys for part in ("png", "json")]
        lion = Image.open(shard.extractfile(f"{keys[0]}.png"))
        assert (lion.size, lion.mode) == ((192, 96), "RGBA")
        assert Image.open(shard.extractfile(f"{keys[1]}.png")).size == (20, 30)  # never enlarged
        assert json.load(shard.extractfile(f"{keys[0]}.json")) == {
            "captions": {"en": "A lion", "de": "Ein Löwe"},
            "category": "animals/mammals",
            "photo": False,
            "mirror": False,
            "file": "animals/mammals/cats/cartoon/lion.png",
        }
        assert json.load(shard.extractfile(f"{keys[1]}.json"))["mirror"] is True
    assert (folder / "fonts/Latn/X-Regular.ttf").read_bytes() == b"font"
    assert (folder / "words-de.txt").read_text("utf-8") == "bär\nzoo\n"
    for name in ("tuxpaint-stamps-default", "fonts-x", "wx"):
        assert f"terms of {name}" in (folder / "LICENCE").read_text()
        assert name in (folder / "ATTRIBUTION.md").read_text()


def test_wordnet(debian: Path) -> None:
    root = package(debian, "wordnet-base") / "usr/share/wordnet"
    root.mkdir(parents=True)
    for name in ("data.noun", "index.noun", "noun.exc", "sents.vrb"):
        (root / name).write_text(name)
    folder = build("wordnet")
    assert {path.name for path in folder.iterdir()} == {
        *("data.noun", "index.noun", "noun.exc"),
        *("LICENCE", "ATTRIBUTION.md", "manifest.json"),
    }


def test_lines(debian: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    font = package(debian, "fonts-x") / "usr/share/fonts/opentype/X Bold.otf"
    font.parent.mkdir(parents=True)
    font.write_bytes(b"font")
    manual = package(debian, "manual-de") / "usr/share/doc/manual-common/docs/debian-reference.de.txt.gz"
    manual.parent.mkdir(parents=True)
    table = "    |cd  /    |ins Wurzelverzeichnis|\n    |---------+-----|\n"
    text = f"1.1. Grundsätzliches\n\n{table}  12\n1.1. Grundsätzliches\n"
    manual.write_bytes(gzip.compress(text.encode()))
    monkeypatch.setattr(lines, "FAMILIES", {"X": {"fonts-x": ["X Bold"]}})
    monkeypatch.setattr(lines, "MANUALS", {"de": "manual-de"})
    folder = build("lines")
    assert (folder / "fonts/X/X Bold.otf").read_bytes() == b"font"
    assert (folder / "text-de.txt").read_text("utf-8") == "1.1. Grundsätzliches\ncd /\nins Wurzelverzeichnis\n"
    assert "terms of fonts-x" in (folder / "LICENCE").read_text()


def test_page_texts_are_what_people_see_of_pages(debian: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = package(debian, "site") / "html"
    pages.mkdir()
    text = "<title>Home</title><script>no()</script><p>Two <b>bold</b>\nwords<td>cell<td>cell<style>p {}</style>"
    (pages / "index.html").write_text(text)
    catalogue = package(debian, "django") / "conf/locale/pt_BR/LC_MESSAGES/django.mo"
    held_out = catalogue.parents[2] / "nl/LC_MESSAGES/django.mo"
    for path, message in ((catalogue, "Salvar\ntudo"), (held_out, "Opslaan")):
        path.parent.mkdir(parents=True)
        path.write_bytes(messages(("Save", message)))
    printed = debian / "page.pdf"
    figure = pyplot.figure(figsize=(4, 3))
    figure.text(0.1, 0.8, "A page")
    with pyplot.rc_context({"pdf.fonttype": 42}):
        figure.savefig(printed)
    pyplot.close(figure)
    monkeypatch.setattr(packages, "fetch", lambda name: package(debian, name))
    site = Site(("site",), "*.html", 1, "html")
    monkeypatch.setattr(page_texts, "SITES", {"themes": {"site": site}, "dev-themes": {"site": site}})
    monkeypatch.setattr(page_texts, "printed_files", lambda dev: [] if dev else [printed])
    folder = build("page-texts")
    texts = {path.stem: path.read_text("utf-8").splitlines() for path in folder.glob("*.txt")}
    assert texts.keys() == {"themes-site", "admin", "pdf"}
    assert texts["themes-site"] == ["Home", "Two bold words", "cell"]
    assert texts["admin"] == ["Salvar", "tudo"]
    assert texts["pdf"] == ["A page"]


def messages(*pairs: tuple[str, str]) -> bytes:
    """A catalogue of GNU gettext."""
    texts = [[one.encode() for one, _ in pairs], [other.encode() for _, other in pairs]]
    head = 28 + 16 * len(pairs)
    places, data = b"", b""
    for side in texts:
        for text in side:
            places += struct.pack("<2I", len(text), head + len(data))
            data += text + b"\0"
    return struct.pack("<7I", 0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0) + places + data


def test_clip_art(debian: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = package(debian, "openclipart-png") / "usr/share/openclipart/png"
    for i in range(6):
        write_image(root / f"special/patterns/p{i}.png", (300, 100))
    write_image(root / "shapes/dot.png", (8, 8))
    write_image(root / "shapes/a.b.png", (50, 50))
    monkeypatch.setattr(clipart, "KINDS", {"pattern": (("special/patterns",), 3), "symbol": (("shapes",), 9)})
    folder = build("clipart")
    with tarfile.open(folder / "pattern-00000.tar") as shard:
        images = [name for name in shard.getnames() if name.endswith(".png")]
        assert len(images) == 3
        assert Image.open(shard.extractfile(images[0])).size == (192, 64)
    with tarfile.open(folder / "symbol-00000.tar") as shard:
        assert shard.getnames() == ["shapes-a_b.png", "shapes-a_b.json"]  # the dot is too small


def test_easy_vqa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "wheel"
    for split in ("train", "test"):
        write_image(root / f"easy_vqa/data/{split}/images/0.png", (64, 64), "RGB")
        (root / f"easy_vqa/data/{split}/questions.json").write_text(
            json.dumps(
                [["what color is the shape?", "teal", 0], ["is there a circle?", "no", 0], ["what shape?", "x", 0]]
            )
        )
    (root / "easy_vqa-1.0.dist-info").mkdir()
    (root / "easy_vqa-1.0.dist-info/METADATA").write_text("License: MIT")
    monkeypatch.setattr(packages, "fetch", lambda name: root)
    folder = build("easy-vqa")
    samples = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    assert samples[0] == {
        "key": "easy-vqa-test-0",
        "images": ["images/test/0.png"],
        "question": "what color is the shape?",
        "answers": ["teal"],
        "question_kind": "colour",
        "lang": "en",
    }
    assert [sample["question_kind"] for sample in samples] == ["colour", "yes/no", "shape"]
    assert all((folder / sample["images"][0]).is_file() for sample in samples)
    assert "MIT" in (folder / "ATTRIBUTION.md").read_text()


def test_fashion_mnist(debian: Path) -> None:
    data = package(debian, "dataset-fashion-mnist") / "usr/share/datasets/fashion-mnist"
    data.mkdir(parents=True)
    images = np.arange(2 * 28 * 28, dtype=np.uint32).astype(np.uint8)
    for stem in ("train", "t10k"):
        (data / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(16) + images.tobytes()))
        (data / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(8) + bytes([3, 9])))
    folder = build("fashion-mnist")
    with np.load(folder / "test.npz", allow_pickle=False) as arrays:
        assert np.array_equal(arrays["images"], images.reshape(2, 28, 28))
        assert arrays["labels"].tolist() == [3, 9]


def test_emoji_are_those_that_all_artists_drew(debian: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noto, emojione, twemoji = (package(debian, name) for name in emoji.needed())
    fonts = noto / "usr/share/fonts/truetype/noto"
    fonts.mkdir(parents=True)
    letters = sorted(FONTS.glob("*.ttf"))[0]
    (fonts / "NotoColorEmoji.ttf").symlink_to(letters)  # letters stand in for emoji
    gem = emojione / "usr/share/rubygems-integration/all/gems/gemojione-1/assets/png"
    known = {"0061": "Food & Drink", "0062-FE0F": "Symbols", "0063": "Symbols", "0064": "Flags", "61-62": "Symbols"}
    known |= {"10FFFF": "Objects"}  # not in the font
    for code in ("0061", "0062", "0064", "10ffff"):  # no 0063
        write_image(gem / f"{code}.png", (32, 16))
    for code in known:
        write_image(twemoji / f"img/twitter/64/{code.lower()}.png", (64, 64))
    (twemoji / "emoji.json").write_text(json.dumps([{"unified": u, "category": c} for u, c in known.items()]))
    monkeypatch.setattr(packages, "fetch", lambda name: package(debian, name))
    folder = build("emoji")
    names = {"food/0061.png", "symbols/0062.png"}
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.png")} == {
        f"{artist}/{name}" for artist in emoji.ARTISTS for name in names
    }
    drawn = [np.asarray(Image.open(folder / artist / "food/0061.png")) for artist in emoji.ARTISTS]
    assert all(image.shape == (64, 64, 3) for image in drawn)
    assert drawn[0].min() < 100 < drawn[0][0, 0].min()
    assert (drawn[2][0, 0].tolist(), drawn[2][32, 32].tolist()) == ([255] * 3, drawn[1][32, 32].tolist())
    assert "CC-BY 4.0" in (folder / "ATTRIBUTION.md").read_text()


def test_ood_images_are_small_jpegs_of_the_named_files(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "fetch", lambda name: tmp_path / name)
    for name in ("one", "two"):
        (tmp_path / name / "images").mkdir(parents=True)
        (tmp_path / name / "usr/share/doc").mkdir(parents=True)
    write_image(tmp_path / "one/images/wide.png", (400, 300))
    write_image(tmp_path / "one/images/tiny.png", (400, 30))
    Image.new("RGB", (300, 400)).save(tmp_path / "one/images/other.jpg")
    (tmp_path / "one/images/again.png").symlink_to("wide.png")
    (tmp_path / "one/usr/share/doc/one").mkdir()
    (tmp_path / "one/usr/share/doc/one/copyright").write_text("terms of one")
    (tmp_path / "two/usr/share/doc/two").symlink_to("one")
    with io.BytesIO() as webp:
        Image.new("RGB", (90, 60), "red").save(webp, "WEBP", lossless=True)
        photo = webp.getvalue()
    with io.BytesIO() as webp:
        Image.new("RGBA", (90, 60), (0, 0, 0, 0)).save(webp, "WEBP", lossless=True)
        cut_out = webp.getvalue()
    (tmp_path / "two/images/a.rcc").write_bytes(b"qres" + cut_out + b"RIFF\x04\0\0\0WEBP" + photo + b"end")
    taken = (
        ood.Taken("one", "images"),
        ood.Taken("two", "images", "resources", options={"stems": ["a"]}),
    )
    monkeypatch.setattr(ood, "SETS", {"dev": {"photograph": taken}, "heldout": {"photograph": taken[1:]}})
    monkeypatch.setattr(ood, "_BESIDE", ())
    folder = tmp_path / "built"
    folder.mkdir()
    ood.build(folder)
    found = open_source(str(ood.shard(folder, "dev", "photograph")), {})
    keys = [found[i].key for i in range(len(found))]
    assert [found[i].images[0].shape for i in range(len(found))] == [(288, 216, 3), (216, 288, 3), (60, 90, 3)]
    assert [key.rpartition(" ")[2] for key in keys] == ["one-other", "one-wide", "two-a-2"]
    assert len(open_source(str(ood.shard(folder, "heldout", "photograph")), {})) == 1
    licence = (folder / "LICENCE").read_text()
    assert licence.count("terms of one") == 2, "two shares the terms of one"


def test_ood_images_are_taken_evenly_and_pages_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "fetch", lambda name: tmp_path)
    for number in range(7):
        write_image(tmp_path / f"{number}.png", (64, 64))
    assert [name for name, _ in ood.Taken("x", ".", count=3).images()] == ["0", "2", "4"]
    assert len([*ood.Taken("x", ".", count=30).images()]) == 7
    fonts = tmp_path / "usr/share/fonts/truetype/dejavu"
    fonts.mkdir(parents=True)
    shutil.copy(FONTS / "NotoSans-Subset.ttf", fonts / "DejaVuSans.ttf")
    (tmp_path / "text.gz").write_bytes(gzip.compress(b"A line\n\n  \nanother\na third"))
    drawn = dict(ood.pages(tmp_path / "text.gz", size=(200, 300), lines=2))
    assert [*drawn] == ["page-0", "page-1"]
    dark = [np.flatnonzero((np.asarray(page)[..., 0] < 128).any(1)) for page in drawn.values()]
    assert len(dark[0]) > len(dark[1]) > 0, "two lines, and one"


def test_no_package_is_in_both_splits_of_ood() -> None:
    sides = [{each.package for own in kinds.values() for each in own} for kinds in ood.SETS.values()]
    assert len(sides[1]) == 8
    assert not sides[0] & sides[1]
