"""``stamps``: Tux Paint's images with captions in about 70 languages, and fonts and words to write with."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openpali_lab.tables import table_of
from openpali_lab.worlds.builders import packages
from openpali_lab.worlds.builders.base import Dataset
from openpali_lab.worlds.builders.output import json_bytes, png_bytes, read_rgba, write_licences, write_shards

PACKAGE = "tuxpaint-stamps-default"
_TABLE = table_of(__file__)
WORD_LISTS: Mapping[str, tuple[str, str]] = _TABLE["words"]
FONTS: packages.Fonts = _TABLE["fonts"]


def build(folder: Path) -> None:
    """Write the shards ``stamps-*.tar``, ``fonts/<script>/`` and ``words-<language>.txt``."""
    root = packages.fetch(PACKAGE) / "usr/share/tuxpaint/stamps"
    write_shards(folder, "stamps", _samples(root))
    packages.copy_fonts(FONTS, folder / "fonts")
    for language, (package, file) in WORD_LISTS.items():
        lines = (packages.fetch(package) / "usr/share/dict" / file).read_text("utf-8").splitlines()
        words = sorted({w for w in lines if w.isalpha() and w.islower() and len(w) <= 12})
        (folder / f"words-{language}.txt").write_text("\n".join(words) + "\n", "utf-8")
    write_licences(folder, needed())


def needed() -> list[str]:
    """The packages that it is built from."""
    return [*dict.fromkeys([PACKAGE, *chain(*FONTS.values()), *(package for package, _ in WORD_LISTS.values())])]


def _samples(root: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Every stamp that is a PNG with a caption, in the order of its path. (Mirror images have no caption.)"""
    for path in sorted(root.rglob("*.png")):
        text, settings = path.with_suffix(".txt"), path.with_suffix(".dat")
        if not text.exists():
            continue
        image = read_rgba(path)
        file = path.relative_to(root)
        folders = [part for part in file.parts[:-1] if part != "cartoon"]
        known = {
            "captions": read_captions(text.read_text("utf-8")),
            "category": "/".join(folders[:2]),
            "photo": "cartoon" not in file.parts and looks_photographed(np.asarray(image)),
            "mirror": not settings.exists() or "nomirror" not in settings.read_text("utf-8").lower(),
            "file": file.as_posix(),
        }
        yield "-".join(file.with_suffix("").parts), {"png": png_bytes(image), "json": json_bytes(known)}


def read_captions(text: str) -> dict[str, str]:
    """Language -> caption from a stamp's text file, whose first line is English and the others ``de.utf8=...``.

    Captions are cleaned by :func:`clean_caption`; empty ones are left out.
    """
    first, *others = text.splitlines()
    captions = {"en": clean_caption(first)}
    for line in others:
        found = re.fullmatch(r"\s*([A-Za-z_@]+)\.utf8=(.*)", line)
        if found and (caption := clean_caption(found[2])):
            captions[language_code(found[1])] = caption
    return captions


def clean_caption(text: str) -> str:
    """``text`` in NFC, with single spaces, without a full stop or exclamation mark (of any script) at the end."""
    return re.sub(r"[\s.。．।|!！]+$", "", " ".join(unicodedata.normalize("NFC", text).split()))


def language_code(locale: str) -> str:
    """BCP 47 tag of a POSIX locale: ``pt_BR`` -> ``pt-BR``, ``sr@latin`` -> ``sr-Latn``, ``zh_CN`` -> ``zh``."""
    special = {"zh_CN": "zh", "zh_TW": "zh-Hant", "sr@latin": "sr-Latn", "ca@valencia": "ca-valencia"}
    return special.get(locale, locale.replace("_", "-"))


def looks_photographed(rgba: NDArray[np.uint8]) -> bool:
    """Whether an image, uint8 ``[H, W, 4]``, has the many colours and few flat areas of a photograph.

    A heuristic: there is at least one distinct colour (at 5 bits a channel) per 20 opaque pixels, and fewer than a
    fifth of horizontally neighbouring pixels are equally bright.
    """
    opaque = rgba[..., 3] > 200
    if opaque.sum() < 64:
        return False
    colours = np.unique((rgba[opaque][:, :3] >> 3).astype(np.int32) @ [1024, 32, 1])
    steps = np.abs(np.diff(rgba[..., :3].mean(axis=-1), axis=1))[opaque[:, 1:] & opaque[:, :-1]]
    return bool(len(colours) / opaque.sum() >= 0.05 and (steps < 1).mean() < 0.2)


DATASET = Dataset(build, needed, minutes=1.0, megabytes=161)
