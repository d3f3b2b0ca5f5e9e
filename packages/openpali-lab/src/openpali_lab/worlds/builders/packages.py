"""Fetch software packages by name and unpack them, for the images, fonts and word lists that they hold.

A package is named as by its manager: ``npm:bootswatch``, ``pypi:django``, or without a manager, a Debian package.
Nothing is installed and root rights are not needed: the manager downloads it, and it is unpacked into
``$OPENPALI_HOME/packages/<name>``. Only the first call uses the network.
"""

from __future__ import annotations

import gettext
import importlib.util
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from openpali.home import home, make_once

VERSION = ".version"
"""File in the folder of a package that holds its version."""
Fonts = Mapping[str, Mapping[str, Sequence[str]]]
"""Group -> Debian packages, and the names of the fonts to take from each."""


def is_fetched(package: str) -> bool:
    """Whether a package is in the cache already."""
    return _folder(package).is_dir()


def version_of(package: str) -> str:
    """The version of a package in the cache; empty for one that was put there without."""
    file = _folder(package) / VERSION
    return file.read_text("utf-8") if file.is_file() else ""


def fetch(package: str) -> Path:
    """Folder with the files of a package, without its dependencies: the newest wheel from PyPI, the newest version
    of npm, or a Debian package as seen from the root (``usr/share/...``).

    Raises:
        FileNotFoundError: it cannot be fetched here, or there is none of that name.
    """
    manager, name = _split(package)

    def make(folder: Path) -> None:
        check_tools([package])
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as work:
            version = _UNPACK[manager](name, Path(work))
            (Path(work) / "files" / VERSION).write_text(version, "utf-8")
            (Path(work) / "files").rename(folder)

    return make_once(_folder(package), make)


def check_tools(packages: Iterable[str]) -> None:
    """Check that this machine can fetch packages; raises ``FileNotFoundError``."""
    wanted: dict[str, list[str]] = {}
    for manager, name in map(_split, packages):
        wanted.setdefault(manager, []).append(name)
    folder, debs = home() / "packages", wanted.get("", [])
    if debs and (missing := next((tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None), "")):
        unpack = 'for deb in *.deb; do dpkg-deb -x "$deb" "/packages/${deb%%_*}"; done'
        raise FileNotFoundError(
            f"{missing} is missing, which fetches Debian packages ({len(debs)} are needed). Start a container with "
            f"`docker run --rm -it -w /tmp -v {folder}:/packages debian:13`, and run in it\n\n"
            f"apt-get update && apt-get download {' '.join(debs)} && {unpack}\n\nThen repeat this command. Any "
            f"Debian or Ubuntu will do instead of the container, if you copy its folder /packages to {folder}"
        )
    if "pypi" in wanted and importlib.util.find_spec("pip") is None:
        raise FileNotFoundError(
            f"this environment has no pip, which fetches the Python package {wanted['pypi'][0]}: run "
            "`python -m ensurepip`"
        )
    if "npm" in wanted and shutil.which("npm") is None:
        raise FileNotFoundError(
            f"npm is missing, which fetches the package {wanted['npm'][0]}: install Node.js with npm"
        )


def copy_fonts(groups: Fonts, folder: Path) -> None:
    """Copy fonts of Debian packages to ``folder/<group>/``."""
    for group, sources in groups.items():
        target = folder / group
        target.mkdir(parents=True)
        for package, names in sources.items():
            found = {path.stem: path for path in (fetch(package) / "usr/share").rglob("*.[to]t[fc]")}
            for name in names:
                shutil.copy(found[name], target / found[name].name)


def read_messages(path: Path) -> Mapping[Any, str]:
    """Message -> translation of a compiled catalogue of gettext; forms of the plural have (message, number)."""
    with path.open("rb") as file:
        # the messages of a catalogue have no public iterator
        catalogue: Mapping[Any, str] = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
    return catalogue


def _split(package: str) -> tuple[str, str]:
    manager, _, name = package.rpartition(":")
    return manager, name


def _folder(package: str) -> Path:
    return home() / "packages" / _split(package)[1]


def _unpack_debian(name: str, work: Path) -> str:
    download = ["apt-get", "download", "-q", name]
    try:
        _run(download, work, name)
    except FileNotFoundError:  # a fresh machine has no package lists yet
        _run(["apt-get", "update", "-q"], work, name)
        _run(download, work, name)
    file = next(work.glob("*.deb"))
    _run(["dpkg-deb", "-x", str(file), str(work / "files")], work, name)
    return unquote(file.name.split("_")[1])


def _unpack_pypi(name: str, work: Path) -> str:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", name]
    _run(pip, work, name)
    file = next(work.glob("*.whl"))
    with zipfile.ZipFile(file) as wheel:
        wheel.extractall(work / "files")
    return file.name.split("-")[1]


def _unpack_npm(name: str, work: Path) -> str:
    _run(["npm", "pack", "--silent", "--ignore-scripts", "--cache", str(work / "cache"), name], work, name)
    with tarfile.open(next(work.glob("*.tgz"))) as archive:
        archive.extractall(work / "unpacked", filter="data")
    (work / "unpacked" / "package").rename(work / "files")
    return str(json.loads((work / "files" / "package.json").read_text("utf-8"))["version"])


_UNPACK = {"": _unpack_debian, "pypi": _unpack_pypi, "npm": _unpack_npm}
"""Manager -> writes the ``files`` of a package by name, and returns its version."""


def _run(command: list[str], work: Path, name: str) -> None:
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise FileNotFoundError(f"the package {name} cannot be fetched: `{' '.join(command)}` says: {reason}")
