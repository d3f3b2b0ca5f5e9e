"""Every data set that ``openpali data build`` can build. A new one is a file in this folder and a line below."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from openpali.home import home
from openpali.progress import Working, unseen
from openpali.synth.builders import (
    clipart,
    easy_vqa,
    emoji,
    fashion_mnist,
    lines,
    ood,
    packages,
    pages,
    stamps,
    vocabularies,
    wordnet,
)

Builder = Callable[[Path], None]
"""Writes a data set into an empty folder."""

BUILDERS: dict[str, Builder] = {
    "stamps": stamps.build,
    "clipart": clipart.build,
    "easy-vqa": easy_vqa.build,
    "fashion-mnist": fashion_mnist.build,
    "wordnet": wordnet.build,
    "lines": lines.build,
    "ood": ood.build,
    "emoji": emoji.build,
    "pages": pages.build,
    **vocabularies.BUILDERS,
}
"""Name of the data set -> its builder. Data sets that are built from others come after them."""
ALL = [name for name in BUILDERS if name not in ("emoji", "pages")]
"""What ``all`` stands for: emoji need npm, which not everybody has, and are for one probe alone; pages need
Chromium, and hours."""

PARTS: dict[str, Sequence[str]] = dict.fromkeys(vocabularies.BUILDERS, ("stamps", "clipart"))
"""Name of the data set -> the data sets that it is built from."""

PACKAGES: dict[str, Callable[[], Sequence[str]]] = {
    "stamps": stamps.needed,
    "clipart": lambda: [clipart.PACKAGE],
    "easy-vqa": lambda: ["easy-vqa"],
    "fashion-mnist": lambda: [fashion_mnist.PACKAGE],
    "wordnet": lambda: [wordnet.PACKAGE],
    "lines": lines.needed,
    "ood": ood.needed,
    "emoji": emoji.needed,
    "pages": pages.needed,
}
"""Name of the data set -> the packages that it is built from."""

MINUTES = {
    "stamps": 1.0,
    "clipart": 0.3,
    "easy-vqa": 0.3,
    "fashion-mnist": 0.3,
    "wordnet": 0.1,
    "lines": 0.1,
    "ood": 0.4,
    "emoji": 0.2,
    "pages": 150,
    "nano-vocabulary": 0.5,
    "mini-vocabulary": 0.5,
}
"""Name of the data set -> minutes that it takes to build on two cores, without the downloads."""
RATE = 5  # megabytes per second at which downloads are expected


def expect(names: Iterable[str], *, force: bool = False) -> str:
    """What building data sets will fetch, and how long it will take, in a sentence.

    Raises:
        FileNotFoundError: this machine cannot fetch the packages; the message says how to get them.
    """
    names = [*names]
    parts = [part for name in names for part in PARTS.get(name, ())]
    todo = [
        name for name in dict.fromkeys([*parts, *names]) if (force and name in names) or not _folder(name).is_dir()
    ]
    missing = _missing(todo)
    packages.check_tools(missing)
    size = sum(packages.MEGABYTES.get(package, 0) for package in missing)
    minutes = sum(MINUTES.get(name, 0) for name in todo) + size / RATE / 60
    if not todo:
        return "everything is built already; --force builds it again"
    fetched = f"{size:,} MB in {len(missing)} package{'s' * (len(missing) > 1)}" if missing else "nothing"
    return f"to build: {', '.join(todo)}; to download: {fetched}; expected: {_about(minutes)} at {RATE} MB/s"


def build(name: str, *, force: bool = False, working: Working = unseen) -> Path:
    """Build the data set ``name`` (a key of :data:`BUILDERS`) and return its folder.

    A data set that exists is returned as it is unless ``force``; those that it is built from are built first if
    they do not exist. The folder appears complete or not at all. ``working`` shows what is being downloaded
    and built.

    Raises:
        ValueError: there is no data set of this name.
        FileNotFoundError: a package cannot be fetched.
    """
    if name not in BUILDERS:
        raise ValueError(f"there is no data set {name!r}: choose one of {', '.join(BUILDERS)}")
    folder = _folder(name)
    if folder.is_dir() and not force:
        return folder
    for part in PARTS.get(name, ()):
        build(part, working=working)
    missing = _missing([name])
    for number, package in enumerate(missing, 1):
        size = f", {packages.MEGABYTES[package]} MB" if package in packages.MEGABYTES else ""
        with working(f"{name}: downloading {package} ({number} of {len(missing)}{size})"):
            packages.fetch(package)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as work:
        new, old = Path(work) / "new", Path(work) / "old"
        new.mkdir()
        with working(f"{name}: building, {_about(MINUTES.get(name, 0))}"):
            BUILDERS[name](new)
        if folder.is_dir():
            folder.rename(old)
        new.rename(folder)
    return folder


def _folder(name: str) -> Path:
    return home() / "data" / name


def _missing(names: Iterable[str]) -> list[str]:
    """The packages that these data sets need and that are not in the cache."""
    needed = dict.fromkeys(package for name in names if name in PACKAGES for package in PACKAGES[name]())
    return [package for package in needed if not packages.is_fetched(package)]


def _about(minutes: float) -> str:
    return "less than a minute" if minutes < 1 else f"about {minutes:.0f} minute{'s' if minutes >= 1.5 else ''}"
