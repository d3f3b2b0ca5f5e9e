"""``pages``: windows of real web pages and pages of real documents, with every word, element and icon and its
place."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from openpali.home import home
from openpali_lab.worlds.builders import lines, packages, rendered
from openpali_lab.worlds.builders.base import Dataset
from openpali_lab.worlds.builders.pages import sources
from openpali_lab.worlds.builders.pages.browser import Look, chromium, shoot, site
from openpali_lab.worlds.builders.pages.made import MadePage
from openpali_lab.worlds.builders.pages.pdf import count_pages, print_page
from openpali_lab.worlds.builders.pages.restyle import restyle
from openpali_lab.worlds.builders.pages.themed import ThemedPage
from openpali_lab.worlds.builders.rendered import CHUNK, Windows
from openpali_lab.worlds.builders.texts import Texts, help_sentences
from openpali_lab.worlds.splits import is_heldout

_SIZES = ((1280, 800), (1440, 900), (1024, 768), (1366, 768), (800, 600), (640, 800), (412, 860), (1100, 640))
_SCALES, _SHARES = (1.0, 1.25, 1.5, 2.0), (0.55, 0.2, 0.15, 0.1)
_PIXELS = 2.2e6  # most of a window
_PLAIN = 0.45  # share of windows with the page's own fonts
_DARK = 0.3  # share of windows that Chromium darkens
_RESTYLED = 0.5  # share of windows with another look than their theme's


def needed() -> list[str]:
    """The packages that it is built from."""
    sites = [package for each in sources.SITES.values() for one in each.values() for package in one.packages]
    own = [*sources.THEMES, *sources.ADMIN, *sources.SKINS, sources.ICONS, sources.PDF]
    return [*dict.fromkeys([*sites, *own, *lines.learned_packages()])]


def build(folder: Path) -> None:
    """Write the shards and their sheet. Takes hours, and goes on where it was stopped."""
    check_authors(needed())
    with chromium():  # fails before hours are spent
        pass
    sites = {name: CHUNK * len(_sites(name)) for name in sources.SITES}
    rendered.build("pages", Path(__file__), {**sources.WINDOWS, **sites}, draw, folder)


def check_authors(names: Sequence[str]) -> None:
    """Check that no package is of an author whose packages are for tests, as far as packages say who that is."""
    authors = {*sources.HELD_OUT, *map(str.lower, sources.TESTED.values())}
    for name in names:
        file = home() / "packages" / name.rpartition(":")[2] / "package.json"
        about = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        told = f"{about.get('author', '')} {about.get('homepage', '')}".lower()
        if author := next((each for each in authors if each in told), ""):
            raise ValueError(f"{name} is by {author}, whose packages are for tests: learn from another one")


def _sites(name: str) -> list[str]:
    """Of a set of sites: the site of each shard."""
    return [site for site, each in sources.SITES[name].items() for _ in range(-(-each.windows // CHUNK))]


def draw(name: str, number: int, rng: np.random.Generator) -> Windows:
    """The windows of shard ``number`` of set ``name``."""
    if name in sources.PDFS:
        shots, source = _printed(rng, dev=name.startswith("dev-")), name
    elif name in _SERVED:
        shots, source = _SERVED[name](rng), name
    else:
        source = _sites(name)[number]
        shots = _site(sources.SITES[name][source], rng)
    with closing(shots):
        for shot, about in shots:
            yield shot.legible(), {"source": source, **about}


def _site(each: sources.Site, rng: np.random.Generator) -> Windows:
    roots = [packages.fetch(package) for package in each.packages]
    folders = [root / each.folder if (root / each.folder).is_dir() else root for root in roots]
    pages = sorted(path.relative_to(folders[0]).as_posix() for path in folders[0].glob(each.pages))
    with site(folders, each.hidden, each.files) as address:
        yield from _windows(address, lambda: (pages[rng.integers(len(pages))], each.language), rng)


def _admin(rng: np.random.Generator, *, skinned: bool) -> Windows:
    needs, app = list(sources.ADMIN), []
    if skinned:
        package, skin = list(sources.SKINS.items())[rng.integers(len(sources.SKINS))]
        look = skin["looks"][int(rng.integers(len(skin["looks"])))]
        needs, app = [*needs, package], [skin["app"], json.dumps({skin["setting"]: look})]

    def draw() -> tuple[str, str]:
        page = sources.ADMIN_PAGES[rng.integers(len(sources.ADMIN_PAGES))]
        language = sources.ADMIN_LANGUAGES[rng.integers(len(sources.ADMIN_LANGUAGES))]
        return page.format(n=rng.integers(2, 5 if "p={n}" in page else 30), o=rng.integers(1, 6)), language

    with _admin_site(needs, app) as address:
        yield from _windows(address, draw, rng)


def _written(rng: np.random.Generator, *, themed: bool) -> Windows:
    """Windows of pages that are written by chance, in the words of a manual."""
    code = sources.HELP[rng.integers(len(sources.HELP))]
    texts = Texts(rng, code, help_sentences(packages.fetch(f"libreoffice-help-{code}"), rng))
    icons = sorted((packages.fetch(sources.ICONS) / "icons").glob("*.svg"))
    roots = {packages.fetch(name): pattern for name, pattern in sources.THEMES.items()} if themed else {}
    found = (path.relative_to(root) for root, pattern in roots.items() for path in sorted(root.glob(pattern)))
    sheets = [path.as_posix() for path in found]
    with tempfile.TemporaryDirectory() as folder, site([Path(folder), *roots]) as address:

        def write() -> tuple[str, str]:
            page = ThemedPage(texts, icons, sheets) if themed else MadePage(texts, icons)
            (Path(folder) / "page.html").write_text(page.html(), "utf-8")
            return "page.html", code

        yield from _windows(address, write, rng)


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
    with tempfile.TemporaryDirectory() as folder:
        families = lines.copy_learned(Path(folder) / "fonts")
        with chromium(Path(folder), hinting=hinting) as browser:
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
    scale = float(rng.choice(_SCALES, p=_SHARES))
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


# not in `all`: needs Chromium, and hours
DATASET = Dataset(build, needed, minutes=220, megabytes=489, in_all=False, sets=sources.VERSIONS)
