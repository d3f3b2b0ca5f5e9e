"""``native``: windows of toolkits and terminals under Xvfb, with every word, element and icon and its place.

Drivers, one for each toolkit, show windows that are described as plain data, and return where the toolkit has put
what. A shard that is rendered again has the same records; of its pixels, the cursor of a terminal may differ.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from openpali_lab.worlds.builders import lines, packages, rendered, texts
from openpali_lab.worlds.builders.base import Dataset
from openpali_lab.worlds.builders.layout import Shot
from openpali_lab.worlds.builders.native import screen, terminals, windows
from openpali_lab.worlds.builders.native.screen import Layer
from openpali_lab.worlds.builders.rendered import Windows

WINDOWS = {
    "gtk3": 720,
    "gtk4": 720,
    "qt5": 624,
    "qt6": 624,
    "tk": 528,
    "terminal": 1056,
    "dev-swing": 144,
    "dev-terminal": 96,
}
"""Windows of each set. Nothing learns from those that begin with ``dev-``."""
_GTK = ("arc", "numix", "greybird", "breeze", "blackbird", "bluebird", "orchis")
THEMES = tuple(f"{name}-{'gtk-' if name != 'arc' else ''}theme" for name in _GTK)
ICONS = tuple(f"{name}-icon-theme" for name in ("tango", "gnome", "mate", "lxde", "oxygen"))
MONOSPACED = ("fonts-terminus-otb", "fonts-go", "fonts-agave")
DEV_MONOSPACED = ("fonts-spleen", "fonts-3270", "fonts-monofur", "fonts-noto-mono")
PICTURES = "mate-backgrounds"
_GTK3 = """
Adwaita Adwaita HighContrast HighContrastInverse Arc Arc-Dark Arc-Darker Numix Greybird Greybird-dark Breeze
Breeze-Dark Blackbird Bluebird Orchis Orchis-Dark
""".split()
_GTK4 = "Default Default Default Default-hc Arc Arc-Dark Breeze Breeze-Dark Greybird Orchis Orchis-Dark".split()
_QT = ("Fusion", "Fusion", "Windows", "Breeze")
_TK = ("clam", "alt", "default", "classic")
_SWING = ("metal", "nimbus", "gtk")
_GROUP = 8  # windows that one process shows
_CRASHES = 5  # groups that may end without a window, one after the other
_CORE = 0.6  # share of terminals with a bitmap font of the X server
_TWO = 0.15  # share of images with two windows
_BACKED = 0.1  # share of single windows on a background
_SMOOTHINGS, _SHARES = ("grey", "rgb", "bgr", "none"), (0.5, 0.2, 0.08, 0.22)
_SCHEMES = (  # ground, ink, ground of fields, chosen, accent, faint
    "#d9d9d9 #000000 #ffffff #4a6984 #0645ad #8a8a8a",
    "#f0f0f0 #202020 #ffffff #3584e4 #1a5fb4 #a0a0a0",
    "#efebe7 #1a1a1a #fcfcfc #dd4814 #a5300a #aaa29a",
    "#353535 #f2f2f2 #232323 #2a82da #7ab8ff #808080",
    "#2e3440 #d8dee9 #3b4252 #5e81ac #88c0d0 #6c7689",
    "#1e1e1e #cccccc #252526 #094771 #4daafc #6a6a6a",
    "#000000 #ffffff #000000 #ffff00 #00ffff #7f7f7f",
    "#fdf6e3 #586e75 #eee8d5 #268bd2 #b58900 #a9b5b5",
    "#c0c0c0 #000000 #ffffff #000080 #0000ff #808080",
)
T = TypeVar("T")


class Shown(NamedTuple):
    """Windows as they are on the display, the lowest first, and what their sample says about them."""

    layers: list[Layer]
    about: dict[str, Any]


def needed() -> list[str]:
    """The packages that it is built from; :data:`.screen.INSTALL` lists those that are installed instead."""
    written = [*texts.CATALOGUES, *texts.MANUALS.values()]
    looks = [*THEMES, *ICONS, *MONOSPACED, *DEV_MONOSPACED, PICTURES]
    return [*dict.fromkeys([*written, *looks, *lines.learned_packages()])]


def build(folder: Path) -> None:
    """Write the shards and their sheet. Takes an hour, and goes on where it was stopped."""
    screen.check_installed()
    rendered.build("native", Path(__file__), WINDOWS, draw, folder)


def draw(name: str, number: int, rng: np.random.Generator) -> Windows:
    """The windows of a shard of a set."""
    dev = name.startswith("dev-")
    pictures = sorted((packages.fetch(PICTURES) / "usr/share/backgrounds").rglob("*.jpg"))
    show = _terminals if name.endswith("terminal") else functools.partial(_windows, name.rpartition("-")[2])
    with tempfile.TemporaryDirectory() as work, screen.display() as display:
        fonts, crashes = _Fonts(Path(work), dev=dev), 0
        while True:
            # Of the generator a group takes one number, so that a window that fails moves no other group.
            own = np.random.default_rng(int(rng.integers(2**63)))
            before: Shown | None = None
            try:
                with (
                    _environment(own, fonts, display) as (environment, look),
                    closing(show(own, environment, look, fonts)) as shown,
                ):
                    for each in itertools.islice(shown, _GROUP):
                        crashes = 0
                        two = before if own.random() < _TWO else None
                        try:
                            shot = _compose([*([two] if two else []), each], pictures, own).legible()
                        except ValueError:
                            continue
                        yield shot, {**each.about, "windows": 2 if two else 1}
                        before = each
            except screen.StoppedError as error:  # the next group has a driver of its own
                crashes += 1
                if crashes == _CRASHES:
                    raise screen.StoppedError(f"{name}: {crashes} times in a row, {error}") from error


def _compose(shown: Sequence[Shown], pictures: Sequence[Path], rng: np.random.Generator) -> Shot:
    [first, *others] = shown
    if len(shown) == 1 and len(first.layers) == 1 and rng.random() >= _BACKED:
        return screen.compose([(first.layers[0], (0, 0))], None)
    shift = int(rng.integers(0, 60)), int(rng.integers(0, 60))
    moved = [(layer, shift) for layer in first.layers]
    for other in others:
        x, y, right, bottom = first.layers[0].box
        by = int(rng.integers(0, max(1, int(right - x)))), int(rng.integers(0, max(1, int(bottom - y))))
        moved += [(layer, by) for layer in other.layers]
    far = [max(layer.box[side] + by[side - 2] for layer, by in moved) for side in (2, 3)]
    width, height = (int(end) + int(rng.integers(4, 60)) for end in far)
    size = min(1500, width), min(940, height)
    if rng.random() < 0.5:
        ground = Image.new("RGB", size, f"#{rng.integers(1 << 24):06x}")
    else:
        with Image.open(_pick(rng, pictures)) as opened:
            ground = opened.convert("RGB").resize(size)
    return screen.compose(moved, ground)


def _pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


# ---- fonts and how they are drawn


class _Fonts:
    """Fonts for programs in a folder, and the names of their families."""

    def __init__(self, work: Path, *, dev: bool) -> None:
        self.work, self.dev = work, dev
        names = lines.copy_learned(work / "fonts")
        self.plain = [name for name in names if "mono" not in name.lower() and "Math" not in name]
        self.mono = terminals.DEV_FAMILIES if dev else terminals.FAMILIES
        for package in (*MONOSPACED, *DEV_MONOSPACED) if dev else MONOSPACED:
            (work / "fonts" / package).symlink_to(packages.fetch(package) / "usr/share/fonts")

    def size(self, rng: np.random.Generator) -> int:
        """Points of a font."""
        shares = [0.05, 0.12, 0.2, 0.22, 0.15, 0.1, 0.06, 0.06, 0.04]
        return int(rng.choice([7, 8, 9, 10, 11, 12, 13, 14, 16], p=shares))


@contextmanager
def _environment(
    rng: np.random.Generator, fonts: _Fonts, display: str
) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Variables for programs, and how they draw: ``hinting``, ``smoothing`` and ``scale``."""
    smoothing = str(rng.choice(_SMOOTHINGS, p=_SHARES))
    hinting, scale = (
        _pick(rng, ("none", "slight", "full")),
        float(rng.choice([1.0, 1.5, 2.0], p=[0.84, 0.08, 0.08])),
    )
    rules = {
        "antialias": f"<bool>{str(smoothing != 'none').lower()}</bool>",
        "hinting": f"<bool>{str(hinting != 'none').lower()}</bool>",
        "hintstyle": f"<const>hint{hinting}</const>",
        "rgba": f"<const>{smoothing if smoothing in ('rgb', 'bgr') else 'none'}</const>",
    }
    edits = "".join(f'<edit name="{name}" mode="assign">{value}</edit>' for name, value in rules.items())
    aliases = "".join(
        f"<alias><family>{kind}</family><prefer><family>{name}</family></prefer></alias>"
        for kind, name in (("sans-serif", "DejaVu Sans"), ("monospace", "DejaVu Sans Mono"))
    )
    config = fonts.work / "fonts.conf"
    config.write_text(
        '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>'
        f"<dir>{fonts.work / 'fonts'}</dir><cachedir>{fonts.work / 'cache'}</cachedir>{aliases}"
        f'<match target="pattern">{edits}</match><match target="font">{edits}</match></fontconfig>',
        "utf-8",
    )
    shares = [str(packages.fetch(name) / "usr/share") for name in THEMES]
    with tempfile.TemporaryDirectory() as home:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "LC_ALL": "C.UTF-8",
            "DISPLAY": display,
            "FONTCONFIG_FILE": str(config),
            "XDG_DATA_DIRS": ":".join([*shares, "/usr/local/share", "/usr/share"]),
            "XDG_RUNTIME_DIR": home,
            "GDK_BACKEND": "x11",
            "GDK_SCALE": str(int(scale) if scale in (1, 2) else 1),
            "GSK_RENDERER": "cairo",
            "NO_AT_BRIDGE": "1",
            "GTK_A11Y": "none",
            "GSETTINGS_BACKEND": "memory",
            "QT_QPA_PLATFORM": "xcb",
            "QT_SCALE_FACTOR": str(scale),
            "QT_LOGGING_RULES": "*=false",
        }
        yield environment, {"hinting": hinting, "smoothing": smoothing, "scale": scale}


def _gtk(rng: np.random.Generator, look: Mapping[str, Any], themes: Sequence[str], font: str) -> dict[str, Any]:
    """GTK's settings."""
    return {
        "gtk-theme-name": _pick(rng, themes),
        "gtk-application-prefer-dark-theme": bool(rng.random() < 0.35),
        "gtk-font-name": font,
        "gtk-enable-animations": False,
        "gtk-cursor-blink": False,
        "gtk-font-rendering": 1,  # as the following say, which GTK 4 does not have
        "gtk-xft-dpi": 1024 * int(rng.choice([96, 96, 96, 96, 84, 120, 144])),
        "gtk-xft-antialias": int(look["smoothing"] != "none"),
        "gtk-xft-hinting": int(look["hinting"] != "none"),
        "gtk-xft-hintstyle": f"hint{look['hinting']}",
        "gtk-xft-rgba": look["smoothing"] if look["smoothing"] in ("rgb", "bgr") else "none",
    }


def _palette(ground: str, ink: str, base: str, chosen: str, accent: str, faint: str) -> dict[str, str]:
    """Qt's colours."""
    roles = {"Window": ground, "Button": ground, "Base": base, "Highlight": chosen, "Link": accent, "off": faint}
    roles |= dict.fromkeys(("WindowText", "Text", "ButtonText"), ink)
    return {**roles, "AlternateBase": ground, "PlaceholderText": faint}


# ---- windows and terminals

_COMMANDS = {
    "gtk3": (screen.PYTHON, "gtk.py", "3"),
    "gtk4": (screen.PYTHON, "gtk.py", "4"),
    "qt5": (screen.PYTHON, "qt.py", "5"),
    "qt6": (screen.PYTHON, "qt.py", "6"),
    "tk": (screen.PYTHON, "tk.py"),
    "swing": ("java", "Swing.java"),
}


def _windows(
    toolkit: str, rng: np.random.Generator, environment: Mapping[str, str], look: Mapping[str, Any], fonts: _Fonts
) -> Generator[Shown, None, None]:
    icons = _icons(packages.fetch(_pick(rng, ICONS)) / "usr/share/icons")
    scale = 1.0
    if "gtk" in toolkit or "qt" in toolkit:  # GTK's is whole
        scale = look["scale"] if "qt" in toolkit or look["scale"] == 2 else 1.0
    with closing(screen.Driver(_COMMANDS[toolkit], environment)) as driver:
        for _ in range(_GROUP):
            family, mono, points = _pick(rng, fonts.plain), _pick(rng, fonts.mono), fonts.size(rng)
            scheme = _pick(rng, _SCHEMES).split()
            window = windows.draw_window(rng, icons)
            if toolkit == "swing" and window["language"] in texts.OTHER_SCRIPTS:
                family = mono = "DejaVu Sans"  # Java takes no letters from other fonts
            window |= {side: int(window[side] / scale) for side in ("width", "height")}
            looks = {
                "gtk": _gtk(rng, look, _GTK3 if toolkit == "gtk3" else _GTK4, f"{family} {points}"),
                "style": _pick(rng, _QT),
                "palette": _palette(*scheme) if rng.random() < 0.6 else {},
                "tk": _pick(rng, _TK),
                "swing": _pick(rng, _SWING),
                "smoothing": look["smoothing"],
                "colours": scheme[:4],
                "accent": scheme[4],
                "faint": scheme[5],
                "font": [family, points],
                "mono": mono,
            }
            answer = driver.ask({**window, "at": [int(20 / scale)] * 2, "look": looks})
            about = {**look, "scale": scale, "toolkit": toolkit, "font": family, "points": points}
            about["language"] = window["language"]
            if "gtk" in toolkit:
                about["theme"] = looks["gtk"]["gtk-theme-name"]
            yield Shown(screen.layers(screen.grab(environment["DISPLAY"]), answer), about)


@functools.cache
def _icons(share: Path) -> windows.Icons:
    found: dict[int, list[Path]] = {}
    for path in sorted(share.rglob("*.png")):
        size = re.fullmatch(r"(16|22|24|32|48)x\1", path.parent.parent.name)
        if size and not path.is_symlink() and path.parent.name not in ("flags", "animations"):
            found.setdefault(int(size[1]), []).append(path)
    return found


def _terminals(
    rng: np.random.Generator, environment: Mapping[str, str], look: Mapping[str, Any], fonts: _Fonts
) -> Generator[Shown, None, None]:
    bitmaps = [*(terminals.DEV_BITMAPS if fonts.dev else terminals.BITMAPS).items()]
    own = rng.random() < terminals.VTE
    driver = screen.Driver(_COMMANDS["gtk3"], {**environment, "GDK_SCALE": "1"}) if own else None
    with closing(driver) if driver else nullcontext():
        for _ in range(_GROUP):
            stem, bitmap = _pick(rng, bitmaps) if not own and rng.random() < _CORE else ("", "")
            page, looks = terminals.draw_terminal(rng, latin=stem.startswith(terminals.LATIN))
            family, points = _pick(rng, fonts.mono), fonts.size(rng)
            about = {**look, "language": looks["language"], "font": family, "points": points, "scale": 1.0}
            try:
                if driver is not None:
                    about["toolkit"], gtk = "vte", _gtk(rng, look, _GTK3[:1], "DejaVu Sans 10")
                    answer = terminals.show_vte(driver, page, looks, f"{family} {points}", gtk)
                    seen = screen.grab(environment["DISPLAY"])
                else:
                    name = str(rng.choice([*terminals.EMULATORS], p=[*terminals.EMULATORS.values()]))
                    about["toolkit"], font = name, f"{family}:size={points}"
                    if bitmap and name != "st":
                        font, about = bitmap, {**about, "font": stem, "points": 0, "smoothing": "none"}
                    with closing(terminals.Emulator(name, page, looks, font, environment)) as emulator:
                        answer, seen = emulator.answer, screen.grab(environment["DISPLAY"])
                yield Shown(screen.layers(seen, answer), about)
            except terminals.TooLargeError:
                continue


# not in `all`: needs programs of Debian, and an hour
DATASET = Dataset(build, needed, minutes=60, megabytes=229, in_all=False, sets=dict.fromkeys(WINDOWS, 1))
