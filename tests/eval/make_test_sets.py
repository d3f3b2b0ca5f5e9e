"""Make ``real_themes.tar`` and ``real_printed.tar``: screens and pages of packages of ``TESTED`` in
``openpali/worlds/builders/tested.py``, which were chosen before anything was scored on them.

- ``real_themes.tar``: windows of themes for the web, each page at one of three sizes, every other one darkened by
  Chromium;
- ``real_printed.tar``: pages of manuals in ten languages, of PDF files, or printed by Chromium, at 100 to 150 dots
  per inch.

A generator with a fixed seed draws pages, sizes and scroll positions. Run with the folder that they go to, and the
names of some sets if not all are to be made.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from make_real_pages import WINDOWS, write

from openpali_lab.worlds.builders import packages
from openpali_lab.worlds.builders.layout import Shot
from openpali_lab.worlds.builders.pages.browser import chromium, shoot, site
from openpali_lab.worlds.builders.pages.pdf import count_pages, print_page

SHOWN = 8  # pages of each theme
UNFIT = {"patternfly.toast", "uikit.sticky"} | {
    f"pure-admin-core.{name}" for name in ("forms", "modals", "splitter", "virtual-scroll")
}
"""Pages with text that shows through what lies over it, or that need what the package leaves out."""
FEWEST = 30  # words of a window
WORDS = 90  # least of a page in print
PRINTED = 3  # pages of each manual


@dataclass(frozen=True)
class Theme:
    """A package with pages, and the packages that it takes files from.

    Attributes:
        pages: glob pattern.
        others: packages that its pages refer to, in ``node_modules``, by the name they use there.
        prepare: what makes the pages in a copy of the package, if they are not ready.
    """

    pages: str
    others: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Path], None] = lambda folder: None


def _write_volt(folder: Path) -> None:
    """What the package's gulpfile does: expand the parts of pages, and compile the stylesheet."""
    sources = folder / "src"
    parts = sources / "partials"

    def holds(condition: str, known: Mapping[str, str]) -> bool:
        parts = re.findall(r"(\w+) (=|!)== '([^']*)'", condition)
        return all((known.get(name) == value) == (sign == "=") for name, sign, value in parts)

    def expand(text: str, known: Mapping[str, str]) -> str:
        text = re.sub(r"@@if \(([^)]*)\) \{([^{}]*)\}", lambda m: m[2] * holds(m[1], known), text)
        text = re.sub(
            r"@@include\('([^']*)'(?:,\s*(\{.*?\}))?\s*\)",
            lambda m: expand((parts / m[1]).read_text("utf-8"), {**known, **json.loads(m[2] or "{}")}),
            text,
            flags=re.DOTALL,
        )
        return re.sub(r"@@(\w+)", lambda m: known.get(m[1], ""), text)

    for path in sources.glob("pages/**/*.html"):
        text = expand(path.read_text("utf-8"), {"environment": "development"})
        path.write_text(text, "utf-8")
    subprocess.run(
        [sys.executable, "-c", "import sass; sass.compile(dirname=('src/scss', 'src/css'))"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(packages.fetch("pypi:libsass"))},
        check=True,
    )
    (sources / "vendor").symlink_to(folder / "node_modules")


def _write_uikit(folder: Path) -> None:
    """The script that the package leaves out of its pages."""
    code = "".join(
        f'<{tag}="../dist/{file}"{end}>'
        for tag, file, end in (
            ('link rel="stylesheet" href', "css/uikit.css", ""),
            ("script src", "js/uikit.js", "></script"),
            ("script src", "js/uikit-icons.js", "></script"),
        )
    )
    for path in folder.glob("tests/*.html"):
        text = path.read_text("utf-8").replace('<script src="js/test.js"></script>', code)
        text = text.replace("https://images.unsplash.com", "none")  # asked for when a page is left already
        path.write_text(text, "utf-8")


def _write_snippets(folder: Path) -> None:
    """The package's examples, each in the page that it begins with."""
    frame = (folder / "starter/index.html").read_text("utf-8")
    for path in folder.glob("snippets/*.html"):
        text = path.read_text("utf-8")
        if not text.lower().startswith("<!doctype"):
            text = re.sub(
                r"(<main[^>]*>).*(</main>)", lambda m, text=text: m[1] + text + m[2], frame, flags=re.DOTALL
            )
            path.write_text(text, "utf-8")


THEMES: Mapping[str, Theme] = {
    "@themesberg/volt-bootstrap-5-dashboard@1.4.1": Theme(
        "src/pages/**/*.html",
        {
            "bootstrap": "bootstrap@5.0.1",
            "vanillajs-datepicker": "vanillajs-datepicker@1.1.4",
            "chartist": "chartist@0.11.4",
        },
        _write_volt,
    ),
    "themekit@2.1.0": Theme(
        "pages/**/*.html",
        {
            "bootstrap": "bootstrap@4.2.1",
            "@fortawesome/fontawesome-free": "@fortawesome/fontawesome-free@5",
            "ionicons": "ionicons@4.4.6",
            "icon-kit": "icon-kit@1.0.0",
            "perfect-scrollbar": "perfect-scrollbar@1.4.0",
            "popper.js": "popper.js@1.14.6",
        },
    ),
    "patternfly@3.31.1": Theme("dist/tests/*.html", {"jquery": "jquery@3.2.1", "bootstrap": "bootstrap@3.3.7"}),
    "uikit@3.25.29": Theme("tests/*.html", prepare=_write_uikit),
    "@keenmate/pure-admin-core@3.2.0": Theme("snippets/*.html", prepare=_write_snippets),
}


def themes(rng: np.random.Generator, work: Path) -> Iterator[tuple[str, Shot]]:
    looks = itertools.product((False, True), WINDOWS)
    turns = itertools.cycle(replace(look, dark=dark) for dark, look in looks)
    with chromium() as browser:
        for package, theme in THEMES.items():
            short = re.sub(r"@.*", "", package.rpartition("/")[2])
            folder = work / short
            shutil.copytree(packages.fetch(f"npm:{package}"), folder)
            (folder / "node_modules").mkdir(exist_ok=True)
            for name, other in theme.others.items():
                (folder / "node_modules" / name).parent.mkdir(exist_ok=True)
                shutil.copytree(packages.fetch(f"npm:{other}"), folder / "node_modules" / name)
            theme.prepare(folder)
            pages = sorted(
                path.relative_to(folder).as_posix()
                for path in folder.glob(theme.pages)
                if f"{short}.{path.stem}" not in UNFIT
            )
            with site([folder]) as address:
                taken = 0
                for name in rng.permutation(pages):
                    look = next(turns)
                    shot = next(
                        shoot(browser, f"{address}/{name}", look, [float(rng.random() * (rng.random() < 0.5))])
                    )
                    seen = shot.legible()
                    if sum(len(line.words) for line in seen.lines) < FEWEST or len(seen.elements) < 8:
                        continue  # such as a page with a picture alone
                    yield f"{short}_{Path(name).stem}-{look.width}-{'dark' if look.dark else 'light'}", shot
                    taken += 1
                    if taken == SHOWN:
                        break


MANUALS = {
    "developers-reference": ("en", "usr/share/developers-reference/developers-reference.pdf"),
    "developers-reference-de": ("de", "usr/share/developers-reference/de/developers-reference.pdf"),
    "developers-reference-fr": ("fr", "usr/share/developers-reference/fr/developers-reference.pdf"),
    "aptitude-doc-es": ("es", "usr/share/doc/aptitude/html/es/ch*.html"),
    "debian-edu-doc-it": ("it", "usr/share/doc/debian-edu-doc-it/debian-edu-trixie-manual.pdf"),
    "lilypond-doc-pdf-pt": ("pt", "usr/share/doc/lilypond/html/Documentation/web.pt.pdf"),
    "debian-edu-doc-pt-pt": ("pt", "usr/share/doc/debian-edu-doc-pt-pt/debian-edu-trixie-manual.pdf"),
    "debian-edu-doc-legacy-pl": ("pl", "usr/share/doc/debian-edu-doc-legacy-pl/audacity-manual.pdf"),
    "aptitude-doc-cs": ("cs", "usr/share/doc/aptitude/html/cs/ch*.html"),
    "aptitude-doc-ru": ("ru", "usr/share/doc/aptitude/html/ru/ch*.html"),
    "debian-edu-doc-uk": ("uk", "usr/share/doc/debian-edu-doc-uk/debian-edu-trixie-manual.pdf"),
}
"""Package -> language of its manual, and pattern of its PDF files, or of web pages, which Chromium prints."""


COMMON = {
    "en": "the of and to is in",
    "de": "der die und nicht ist zu",
    "fr": "les des est un une pour",
    "es": "los del que el se por",
    "it": "che di il per una un",
    "pt": "que os em um uma do",
    "pl": "jest się nie w i na z do to o że",
    "cs": "se na je v a pokud",
    "ru": "и в не на что для",
    "uk": "і в та на не для",
}
"""Language -> some words that are common in it."""


def printed(rng: np.random.Generator, work: Path) -> Iterator[tuple[str, Shot]]:
    for package, (language, pattern) in MANUALS.items():
        files = sorted(packages.fetch(package).glob(pattern))
        if files[0].suffix == ".html":
            files = _print(files, work / package)
        places = [(file, number) for file in files for number in range(count_pages(file))]
        shots = (
            (
                f"{language}_{package}-{file.stem.replace('.', '-')}-{number}-{dpi}",
                print_page(file, number, dpi).legible(),
            )
            for file, number in (places[index] for index in rng.permutation(len(places)))
            if (dpi := int(rng.integers(100, 151)))
        )
        yield from itertools.islice((each for each in shots if _is_prose(each[1], language)), PRINTED)


def _print(files: Sequence[Path], folder: Path) -> list[Path]:
    folder.mkdir()
    with chromium() as browser:
        page = browser.new_page()
        for file in files:
            page.goto(file.as_uri())
            page.pdf(path=folder / f"{file.stem}.pdf", format="A4")
    return sorted(folder.iterdir())


def _is_prose(shot: Shot, language: str) -> bool:
    """Whether a page has many words, and those of its language: parts of translations are in English."""
    words = [word.text.lower() for line in shot.lines for word in line.words]
    told = sum(any(map(str.isalnum, word)) for word in words)
    own, english = (sum(word in COMMON[code].split() for word in words) for code in (language, "en"))
    return told >= max(WORDS, 0.8 * len(words)) and own >= 0.03 * told and (own > english or language == "en")


SETS = {"themes": (themes, 5081, 128), "printed": (printed, 7717, 16)}
"""Set -> what makes it, seed, number of colours."""

if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    for name in names or SETS:
        make, seed, colours = SETS[name]
        with tempfile.TemporaryDirectory() as work:
            shots = make(np.random.default_rng(seed), Path(work))
            write(Path(folder) / f"real_{name}.tar", shots, colours, "webp")
