"""``printed``: fonts of screens, bitmap and console fonts, and texts of manuals and programs in many languages."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

from openpali.text.characters import numbers_of
from openpali_lab.tables import table_of
from openpali_lab.worlds.builders import packages
from openpali_lab.worlds.builders.base import Dataset
from openpali_lab.worlds.builders.output import write_licences

FAMILIES: Mapping[str, Mapping[str, str]] = table_of(__file__)["families"]
_MANUALS = ["de", "fr", "es", "it", "pl", "cs", "nl", "ro", "sv", "da", "fi", "hu", "nb", "tr", "vi"]
MANUALS = {
    "en": "manpages",
    **{code: f"manpages-{code}" for code in [*_MANUALS, "ru", "uk", "sr", "mk", "el"]},
    "pt": "manpages-pt-br",
}
PROGRAMS = "cinnamon-l10n"
_CODES = {"en": "en_GB", "pt": "pt_BR"}  # of the texts of programs, where they differ
LANGUAGES = [*MANUALS, "bg", "be", "ca", "sk", "hr", "sl", "lt", "lv"]
MOST = 1_500_000  # characters of a language
_FORMAT = re.compile(r"%[\d$.\-]*[a-z]|[{}<>]|\\|&[a-z]+;")
_FONT = re.compile(r"\\f(\(..|\[[^]]*\]|.)|\\[,/&|^]")
_SIGNS = {r"\-": "-", r"\(aq": "'", r"\(dq": '"', r"\e": "\\", r"\(co": "©", r"\(bu": "•", r"\(em": "—", r"\ ": " "}


def build(folder: Path) -> None:
    """Write ``fonts/FAMILY/`` and ``text-LANGUAGE.txt``, whose lines have characters that a reader can write."""
    for family, sources in FAMILIES.items():
        target = folder / "fonts" / family
        target.mkdir(parents=True)
        for package, names in sources.items():
            for file in sorted((packages.fetch(package) / "usr/share").rglob("*")):
                stem = file.name.split(".")[0]
                if (
                    re.fullmatch(r".+\.([ot]tf|pcf\.gz)", file.name)
                    and re.fullmatch(names, stem)
                    and file.is_file()
                ):
                    content = file.read_bytes()
                    name = f"{package}-{file.name.removesuffix('.gz')}"
                    (target / name).write_bytes(gzip.decompress(content) if file.suffix == ".gz" else content)
    for language in LANGUAGES:
        lines = (" ".join(line.split()) for line in _texts(language))
        kept = [line for line in dict.fromkeys(lines) if any(map(str.isalpha, line)) and numbers_of(line)]
        text = "\n".join(kept)[:MOST]
        (folder / f"text-{language}.txt").write_text(text[: text.rindex("\n") + 1], "utf-8")
    write_licences(folder, needed())


def needed() -> list[str]:
    """The packages that it is built from."""
    return [*dict.fromkeys(chain(*FAMILIES.values(), MANUALS.values(), [PROGRAMS]))]


def _texts(language: str) -> Iterator[str]:
    """What programs say, then what manuals say."""
    folder = packages.fetch(PROGRAMS) / "usr/share/locale" / _CODES.get(language, language)
    for file in sorted(folder.rglob("*.mo")):
        for source, message in packages.read_messages(file).items():
            if isinstance(source, str) and source and not _FORMAT.search(message):
                yield from message.replace("_", "").splitlines()
    if language in MANUALS:
        for page in sorted((packages.fetch(MANUALS[language]) / "usr/share/man").rglob("*.gz")):
            if not page.is_symlink():
                yield from roff_lines(page)


def roff_lines(page: Path) -> Iterator[str]:
    """The lines of text of a manual page, without roff's requests."""
    for line in gzip.decompress(page.read_bytes()).decode("utf-8", "ignore").splitlines():
        text = _FONT.sub("", line)
        for code, sign in _SIGNS.items():
            text = text.replace(code, sign)
        if text and text[0] not in ".'" and "\\" not in text:
            yield text


DATASET = Dataset(build, needed, parts=("lines",), minutes=1, megabytes=163, in_all=False)
