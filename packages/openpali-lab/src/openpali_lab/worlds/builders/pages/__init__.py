"""``pages``: windows of real web pages and pages of real documents, with every word, element and icon and its
place."""

from __future__ import annotations

import functools
import itertools
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from openpali.home import home
from openpali.rng import named_generator
from openpali.whole import replacing
from openpali_lab.worlds.builders import lines, packages
from openpali_lab.worlds.builders.base import Dataset
from openpali_lab.worlds.builders.manifest import code_hash
from openpali_lab.worlds.builders.output import add_sample, json_bytes
from openpali_lab.worlds.builders.pages import sources
from openpali_lab.worlds.builders.pages.browser import Look, chromium, shoot, site
from openpali_lab.worlds.builders.pages.layout import Shot
from openpali_lab.worlds.builders.pages.made import Page, Words
from openpali_lab.worlds.builders.pages.pdf import count_pages, print_page
from openpali_lab.worlds.builders.pages.restyle import restyle
from openpali_lab.worlds.builders.pages.sheet import write_sheet
from openpali_lab.worlds.builders.pages.themed import ThemedPage
from openpali_lab.worlds.builders.tested import TESTED
from openpali_lab.worlds.splits import is_heldout

CHUNK = 48  # windows of a shard
_SIZES = ((1280, 800), (1440, 900), (1024, 768), (1366, 768), (800, 600), (640, 800), (412, 860), (1100, 640))
_SCALES = ((1.0, 0.55), (1.25, 0.2), (1.5, 0.15), (2.0, 0.1))
_PIXELS = 2.2e6  # most of a window
_PLAIN = 0.45  # share of windows with the page's own fonts
_DARK = 0.3
"""Share of windows that Chromium darkens."""
_RESTYLED = 0.5
"""Share of windows with another look than their theme's."""

Windows = Generator[tuple[Shot, dict[str, Any]], None, None]
"""Windows with what their samples say about them; to be closed, which closes the browser."""


def needed() -> list[str]:
    """The packages that it is built from."""
    sites = [package for each in sources.SITES.values() for one in each.values() for package in one.packages]
    fonts = [package for family in _families() for package, _ in lines.FAMILIES[family]]
    return [
        *dict.fromkeys(
            [*sites, *sources.THEMES, *sources.ADMIN, *sources.SKINS, sources.ICONS, sources.PDF, *fonts]
        )
    ]


def build(folder: Path) -> None:
    """Write shards ``SET-00000.tar`` of PNG files with their truth, and ``sheet.png`` with some of them. Takes
    hours, and goes on where it was stopped.
    """
    check_authors(needed())
    with chromium():  # fails before hours are spent
        pass
    render_all("pages", Path(__file__), jobs(), render, folder)


def render_all(
    name: str, code: Path, todo: Sequence[tuple[str, int]], render: Callable[[Path, str, int], None], folder: Path
) -> None:
    """Write the shards ``todo`` of the data set ``name`` and their sheet into ``folder``, each by ``render``, whose
    folder is ``code``. Those that were written before this was stopped are taken up."""
    parts = home() / "data" / f".{name}-parts-{code_hash(code)}"
    parts.mkdir(parents=True, exist_ok=True)
    missing = [job for job in todo if not (parts / f"{job[0]}-{job[1]:05d}.tar").exists()]
    workers = max(1, (os.cpu_count() or 1))
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for _ in pool.map(functools.partial(render, parts), *zip(*missing, strict=True)) if missing else ():
            pass
    for source, number in todo:
        part = parts / f"{source}-{number:05d}.tar"
        try:
            os.link(part, folder / part.name)
        except OSError:  # a file system without hard links
            shutil.copy(part, folder / part.name)
    write_sheet(folder)
    shutil.rmtree(parts)


def check_authors(names: Sequence[str]) -> None:
    """Check that no package is of an author whose packages are for tests, as far as packages say who that is."""
    authors = {*sources.HELD_OUT, *map(str.lower, TESTED.values())}
    for name in names:
        file = home() / "packages" / name.rpartition(":")[2] / "package.json"
        about = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        told = f"{about.get('author', '')} {about.get('homepage', '')}".lower()
        if author := next((each for each in authors if each in told), ""):
            raise ValueError(f"{name} is by {author}, whose packages are for tests: learn from another one")


def jobs() -> list[tuple[str, int]]:
    """Name of the set and number of the shard, for each shard; sets take turns."""
    shards = {name: -(-count // CHUNK) for name, count in sources.WINDOWS.items()}
    shards |= {name: len(_sites(name)) for name in sources.SITES}
    queues = [[(name, i) for i in range(count)] for name, count in shards.items()]
    places = [((k + 0.5) / len(queue), job) for queue in queues for k, job in enumerate(queue)]
    return [job for _, job in sorted(places)]


def _sites(name: str) -> list[str]:
    """Of a set of sites: the site of each shard."""
    return [site for site, each in sources.SITES[name].items() for _ in range(-(-each.windows // CHUNK))]


def render(folder: Path, name: str, number: int) -> None:
    """Write shard ``number`` of set ``name`` into ``folder``; it depends on nothing else."""
    rng, site = named_generator("pages", name, number), name
    if name in sources.PDFS:
        shots = _printed(rng, dev=name.startswith("dev-"))
    elif name in _SERVED:
        shots = _SERVED[name](rng)
    else:
        site = _sites(name)[number]
        shots = _site(sources.SITES[name][site], rng)
    with closing(shots), replacing(folder / f"{name}-{number:05d}.tar") as new, tarfile.open(new, "w") as shard:
        readable = ((shot, about) for shot, about in shots if shot.lines)  # some are covered while a page loads
        for index, (shot, about) in enumerate(itertools.islice(readable, CHUNK)):
            content = {"json": json_bytes(shot.legible().record({"source": site, **about})), "png": shot.png}
            add_sample(shard, f"{name}-{number:05d}-{index:02d}", content)


def _site(each: sources.Site, rng: np.random.Generator) -> Windows:
    roots = [packages.fetch(package) for package in each.packages]
    folders = [root / each.folder if (root / each.folder).is_dir() else root for root in roots]
    pages = sorted(path.relative_to(folders[0]).as_posix() for path in folders[0].glob(each.pages))
    with site(folders, each.hidden, each.files) as address:
        yield from _windows(address, lambda: (pages[rng.integers(len(pages))], each.language), rng)


def _admin(rng: np.random.Generator, *, skinned: bool) -> Windows:
    needs, app = list(sources.ADMIN), []
    if skinned:
        package, (name, setting, looks) = list(sources.SKINS.items())[rng.integers(len(sources.SKINS))]
        look = looks[int(rng.integers(len(looks)))]
        needs, app = [*needs, package], [name, json.dumps({setting: look})]

    def draw() -> tuple[str, str]:
        page = sources.ADMIN_PAGES[rng.integers(len(sources.ADMIN_PAGES))]
        language = sources.ADMIN_LANGUAGES[rng.integers(len(sources.ADMIN_LANGUAGES))]
        return page.format(n=rng.integers(2, 5 if "p={n}" in page else 30), o=rng.integers(1, 6)), language

    with _admin_site(needs, app) as address:
        yield from _windows(address, draw, rng)


def _written(rng: np.random.Generator, *, themed: bool) -> Windows:
    """Windows of pages that are written by chance, in the words of a manual."""
    code = sources.HELP[rng.integers(len(sources.HELP))]
    words = Words(packages.fetch(f"libreoffice-help-{code}"), code, rng)
    icons = sorted((packages.fetch(sources.ICONS) / "icons").glob("*.svg"))
    roots = {packages.fetch(name): pattern for name, pattern in sources.THEMES.items()} if themed else {}
    found = (path.relative_to(root) for root, pattern in roots.items() for path in sorted(root.glob(pattern)))
    sheets = [path.as_posix() for path in found]
    with tempfile.TemporaryDirectory() as folder, site([Path(folder), *roots]) as address:

        def draw() -> tuple[str, str]:
            page = ThemedPage(words, icons, sheets, rng) if themed else Page(words, icons, rng)
            (Path(folder) / "page.html").write_text(page.html(), "utf-8")
            return "page.html", code

        yield from _windows(address, draw, rng)


_SERVED: Mapping[str, Callable[[np.random.Generator], Windows]] = {
    "admin": functools.partial(_admin, skinned=False),
    "skins": functools.partial(_admin, skinned=True),
    "made": functools.partial(_written, themed=False),
    "themed": functools.partial(_written, themed=True),
}
"""Sources whose pages are made while they are asked for."""


def _windows(address: str, draw: Callable[[], tuple[str, str]], rng: np.random.Generator) -> Windows:
    """Windows without end, of pages that ``draw`` draws with their language, without those that load too slowly."""
    from playwright.sync_api import TimeoutError as TooSlow

    hinting = ("none", "slight", "full")[rng.integers(3)]
    with _fonts() as (folder, families), chromium(folder, hinting=hinting) as browser:
        while True:
            page, language = draw()
            look = _look(rng, language, families)
            scrolls = sorted({0.0 if rng.random() < 0.4 else float(rng.random()), float(rng.random())})
            try:
                with closing(shoot(browser, f"{address}/{page}", look, scrolls)) as shots:
                    for share, shot in zip(scrolls, shots, strict=False):
                        yield shot, {"page": page, "scroll": round(share, 3), **asdict(look)}
            except TooSlow:
                continue


def _look(rng: np.random.Generator, language: str, families: list[str]) -> Look:
    width, height = _SIZES[rng.integers(len(_SIZES))]
    scale = float(rng.choice([s for s, _ in _SCALES], p=[p for _, p in _SCALES]))
    if width * height * scale**2 > _PIXELS:
        scale = 1.0
    return Look(
        width=int(width + rng.integers(-40, 41)),
        height=int(height + rng.integers(-40, 41)),
        scale=scale,
        dark=bool(rng.random() < _DARK),
        zoom=float(rng.choice([0.8, 0.9, 1.0, 1.0, 1.0, 1.1, 1.25])),
        font="" if rng.random() < _PLAIN else families[rng.integers(len(families))],
        language=language,
        style=restyle(rng) if rng.random() < _RESTYLED else "",
    )


def _printed(rng: np.random.Generator, *, dev: bool) -> Windows:
    files = printed_files(dev=dev)
    while True:
        path = files[rng.integers(len(files))]
        number, dpi = int(rng.integers(count_pages(path))), float(rng.uniform(80, 180))
        inverted = bool(rng.random() < 0.1)
        shot = print_page(path, number, dpi, inverted=inverted)
        about = {"page": f"{path.name}#{number}", "dpi": round(dpi), "dark": inverted, "language": ""}
        yield shot, about


def printed_files(*, dev: bool) -> list[Path]:
    """The PDF files that are learned from, or those for decisions while training."""
    found = sorted((packages.fetch(sources.PDF) / "usr/share/doc/texlive-doc").rglob("*.pdf"))
    return [path for path in found if is_heldout("pdf", path.name) == dev]


def _families() -> list[str]:
    """Families of fonts that pages are set in: those that no held-out line is printed in."""
    return [family for family in lines.FAMILIES if not is_heldout("font", family)]


@contextmanager
def _fonts() -> Iterator[tuple[Path, list[str]]]:
    """A folder with fonts for Chromium, and the names of their families."""
    from PIL import ImageFont

    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "fonts"
        packages.copy_fonts({family: lines.FAMILIES[family] for family in _families()}, folder)
        names = {ImageFont.truetype(str(path), 16).getname()[0] for path in folder.rglob("*.[to]t[fc]")}
        yield folder, sorted(name for name in names if name)


@contextmanager
def _admin_site(needs: Sequence[str], app: Sequence[str]) -> Iterator[str]:
    """Django's admin from packages ``needs``, in a process of its own, with the app and the look that its ``main``
    takes. Yields the address.
    """
    path = os.pathsep.join(str(packages.fetch(package)) for package in needs)
    serve = "import pathlib, sys, admin_site; admin_site.main(pathlib.Path(sys.argv[1]), *sys.argv[2:])"
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-c", serve, folder, *app],
            cwd=Path(__file__).parent,
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()
            process.wait()


DATASET = Dataset(
    build, needed, minutes=220, megabytes=489, in_all=False, sets=sources.VERSIONS
)  # needs Chromium, and hours
