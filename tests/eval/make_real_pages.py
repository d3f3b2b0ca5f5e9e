"""Make ``real_screens.tar``, ``real_screens_dialogs.tar`` and ``real_documents.tar``: whole screens and pages with
every word and its place.

    python tests/eval/make_real_pages.py packages/openpali-lab/src/openpali_lab/worlds/benchmarks

on Debian 13 with npm, Chromium and the extra ``pages``. Images were made once: packages change, and so would
the sets. The truth of 54 of the 60 windows was written again when ``truth.js`` knew that what is transparent
covers nothing; those images came out the same, and the six others show charts that are drawn by chance. No
model learns from these packages, and no decision is made by them.

- screens: 20 pages of gentelella's dashboards (npm, MIT) in three windows each, every second one darkened by
  Chromium. Their elements and icons are the objects of the records;
- dialogs: every fourth screenshot of a native dialog in LibreOffice's help (MPL-2.0; the package
  libreoffice-help-common), as it is. Two OCR engines proposed their words, and a person corrected each:
  ``real_dialogs.json``;
- documents: 20 pages of the Debian Installation Guide (GPL-2; the package installation-guide-amd64) in ten
  languages of Latin and Cyrillic script, at 100 to 150 dots per inch.

A generator with a fixed seed draws pages and scroll positions. Images have a palette of
128 colours, pages in print of 16.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from openpali.tasks.example import Box, Line, Word
from openpali_lab.worlds.builders import packages
from openpali_lab.worlds.builders.layout import Shot
from openpali_lab.worlds.builders.output import add_sample, json_bytes
from openpali_lab.worlds.builders.pages.browser import Look, chromium, shoot, site
from openpali_lab.worlds.builders.pages.pdf import count_pages, print_page

WINDOWS = (Look(1280, 800), Look(1024, 700, scale=1.25), Look(420, 800, scale=1.5))
PAGES = 20
LANGUAGES = ("cs", "de", "en", "es", "fr", "it", "pt", "ru", "sv", "uk")
PRINTED = 2  # pages of each language


def screens(rng: np.random.Generator) -> Iterator[tuple[str, Shot]]:
    folder = packages.fetch("npm:gentelella") / "dist"  # pages refer to files beside their own folder
    names = sorted(path.name for path in (folder / "production").glob("*.html"))
    dark = itertools.cycle((False, True))
    with site([folder]) as address, chromium() as browser:
        for name in rng.permutation(names)[:PAGES]:
            for look in WINDOWS:
                scroll = 0.0 if rng.random() < 0.5 else float(rng.random())
                shown = replace(look, dark=next(dark))
                theme = "dark" if shown.dark else "light"
                for shot in shoot(browser, f"{address}/production/{name}", shown, [scroll]):
                    yield f"{Path(name).stem}-{shown.width}-{theme}", shot


def dialogs() -> Iterator[tuple[str, Shot]]:
    folder = packages.fetch("libreoffice-help-common") / "usr/share/libreoffice/help/media/screenshots"
    for name, truth in json.loads(Path(__file__).with_name("real_dialogs.json").read_text("utf-8")).items():
        lines = [
            Line([Word(word, Box(top, x[0], bottom, x[1])) for word, x in zip(text.split(), sides, strict=True)])
            for text, top, bottom, sides in truth["lines"]
        ]
        ignored = [Box(*box) for box in truth["ignored"]]
        yield f"{Path(name).stem}-dialog", Shot((folder / name).read_bytes(), lines, ignored)


def documents(rng: np.random.Generator, folder: Path) -> Iterator[tuple[str, Shot]]:
    root = packages.fetch("installation-guide-amd64")
    for language in LANGUAGES:
        [packed] = root.rglob(f"{language}/install.*.pdf.gz")
        path = folder / f"{language}.pdf"
        path.write_bytes(gzip.decompress(packed.read_bytes()))
        for number in rng.choice(np.arange(4, count_pages(path)), PRINTED, replace=False):
            dpi = int(rng.integers(100, 151))
            yield f"{language}-{number}-{dpi}", print_page(path, int(number), dpi)


def write(path: Path, shots: Iterator[tuple[str, Shot]], colours: int, kind: str = "png") -> None:
    with tarfile.open(path, "w") as shard:
        for key, shot in shots:
            small = io.BytesIO()
            image = Image.open(io.BytesIO(shot.png)).convert("RGB").quantize(colours)
            if kind == "webp":
                image.convert("RGB").save(small, kind, lossless=True, quality=40, method=2)
            else:
                image.save(small, kind, optimize=True)
            shown = replace(shot, png=small.getvalue()).legible()
            add_sample(shard, key, {"json": json_bytes(shown.record({"source": key})), kind: shown.png})


if __name__ == "__main__":
    write(Path(sys.argv[1]) / "real_screens.tar", screens(np.random.default_rng(2310)), 128)
    write(Path(sys.argv[1]) / "real_screens_dialogs.tar", dialogs(), 256)
    with tempfile.TemporaryDirectory() as work:
        write(Path(sys.argv[1]) / "real_documents.tar", documents(np.random.default_rng(9199), Path(work)), 16)
