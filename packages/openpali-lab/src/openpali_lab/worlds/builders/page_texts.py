"""``page-texts``: what the packages say that pages are rendered from, for the language model of a reader."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import pypdfium2

from openpali_lab.worlds.builders import packages
from openpali_lab.worlds.builders.base import Dataset
from openpali_lab.worlds.builders.pages import printed_files
from openpali_lab.worlds.builders.pages.sources import ADMIN, ADMIN_LANGUAGES, PDF, SITES, Site
from openpali_lab.worlds.builders.texts import html_texts

MOST = 1_300_000  # characters of a source: of a manual in one language, for example


def build(folder: Path) -> None:
    """Write ``SOURCE.txt``, each line of which is a paragraph, a label or the like, without repetitions."""
    for name, site in _sites().items():
        pages = (packages.fetch(site.packages[0]) / site.folder).glob(site.pages)
        _write(folder / f"{name}.txt", chain.from_iterable(map(html_texts, _shuffled(pages))))
    _write(folder / "admin.txt", _messages(packages.fetch(ADMIN[0])))
    _write(folder / "pdf.txt", chain.from_iterable(map(_printed, _shuffled(printed_files(dev=False)))))


def needed() -> list[str]:
    """The packages that it is built from."""
    sites = [site.packages[0] for site in _sites().values()]
    return [*dict.fromkeys([*sites, ADMIN[0], PDF])]


def _sites() -> dict[str, Site]:
    """The sites that are learned from, by set and name."""
    sets = {name: each for name, each in SITES.items() if not name.startswith("dev-")}
    return {f"{name}-{site}": one for name, each in sets.items() for site, one in each.items()}


def _messages(django: Path) -> Iterator[str]:
    for path in _shuffled(django.rglob("*.mo")):
        if path.parts[-3].replace("_", "-").lower() in ADMIN_LANGUAGES:
            for message in packages.read_messages(path).values():
                yield from message.splitlines()


def _printed(path: Path) -> Iterator[str]:
    document = pypdfium2.PdfDocument(path)
    try:
        for page in document:
            yield from page.get_textpage().get_text_range().splitlines()
    finally:
        document.close()


def _shuffled(paths: Iterable[Path]) -> list[Path]:
    found = sorted(paths)
    random.Random(0).shuffle(found)
    return found


def _write(path: Path, texts: Iterable[str]) -> None:
    """Write the distinct texts, up to :data:`MOST` characters."""
    seen: dict[str, None] = {}
    length = 0
    for text in texts:
        whole = " ".join(text.split())
        if whole and whole not in seen:
            seen[whole] = None
            length += len(whole)
        if length > MOST:
            break
    path.write_text("".join(f"{text}\n" for text in seen), "utf-8")


DATASET = Dataset(build, needed, minutes=1, megabytes=305, in_all=False)
