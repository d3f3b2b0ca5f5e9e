"""``unlike``: photographs and screenshots, which are nothing like the nano world; only for evaluation."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from openpali.synth.builders import packages
from openpali.synth.builders.output import json_bytes, write_licences, write_shards

LONGEST = 288  # pixels of the longer side as stored: no nano sees more
_SCIENCE = (
    "astronaut",
    "brick",
    "camera",
    "chelsea",
    "coffee",
    "coins",
    "grass",
    "gravel",
    "hubble_deep_field",
    "ihc",
    "moon",
    "motorcycle_left",
    "retina",
    "rocket",
)
_SCREENS = (
    "aptitude",
    "cinnamon",
    "evolution",
    "firefox",
    "fwbuilder",
    "gnome",
    "gnome-packagekit",
    "inst-gdm",
    "inst-autopartman-mode",
    "inst-basesystem",
    "inst-boot",
    "inst-complete",
    "inst-complete-txt",
    "inst-country",
    "inst-country-txt",
    "inst-keyboard",
    "inst-keyboard-txt",
    "inst-lang",
    "inst-lang-txt",
    "inst-mirror",
    "inst-partman",
    "inst-partman-disk",
    "inst-partman-partition",
    "inst-partman-validation",
    "inst-rootpw",
    "inst-tasksel",
    "inst-username",
    "kde",
    "kmail",
    "lxde",
    "lxqt",
    "mate",
    "synaptic",
    "testkvm",
    "thunderbird",
    "webmin",
    "wireshark",
    "xfce",
)
SOURCES = {  # kind -> (package, folder, files without ending; empty: all images there)
    "photograph": (
        ("lomiri-wallpapers-16.04", "usr/share/backgrounds", ()),
        ("mate-backgrounds", "usr/share/backgrounds/mate/nature", ()),
        ("python3-sklearn", "usr/lib/python3/dist-packages/sklearn/datasets/images", ()),
        (
            "python3-skimage",
            "usr/lib/python3/dist-packages/skimage/data",
            _SCIENCE,
        ),
    ),
    "screenshot": (
        (
            "debian-handbook",
            "usr/share/doc/debian-handbook/html/en-US/images",
            _SCREENS,
        ),
    ),
}


def needed() -> list[str]:
    """The packages that it is built from."""
    return [package for sources in SOURCES.values() for package, _, _ in sources]


def build(folder: Path) -> None:
    """Write ``photograph-00000.tar`` and ``screenshot-00000.tar``, WebDataset shards of JPEG images."""
    for kind in SOURCES:
        write_shards(folder, kind, _samples(kind))
    write_licences(folder, needed())


def _samples(kind: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    for package, place, names in SOURCES[kind]:
        root = packages.debian(package) / place
        for path in sorted(root.iterdir()):
            if path.suffix in (".jpg", ".png") and (not names or path.stem in names):
                with Image.open(path) as opened:
                    image = opened.convert("RGB")
                image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
                out = io.BytesIO()
                image.save(out, "JPEG", quality=95)
                key = f"{package}-{path.stem}".replace(".", "_")
                yield key, {"jpg": out.getvalue(), "json": json_bytes({})}
