"""What is written in made-up pages and windows: words of manuals, messages of libraries, and values such as dates,
sizes, paths and versions, of which the drawn lines have templates."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np

from openpali.text.characters import numbers_of
from openpali_lab.tables import table_of
from openpali_lab.worlds.builders import packages
from openpali_lab.worlds.builders.printed import roff_lines
from openpali_lab.worlds.line_texts import CODE, NUMBERS, Field, fill, templates
from openpali_lab.worlds.printed_texts import SCREEN_FIELDS, TERMINAL

T = TypeVar("T")
_TABLE = table_of(__file__)
CATALOGUES: Mapping[str, int] = _TABLE["catalogues"]
LANGUAGES: Mapping[str, float] = _TABLE["languages"]
MANUALS = {"en": "manpages", **{code: f"manpages-{code}" for code in ("de", "fr", "es", "pl", "ru", "uk")}}
OTHER_SCRIPTS = ("ru", "uk", "bg", "el")
_FILES = templates("{word}.{ending}   {Word}.{ending}   {word}-{nn}.{ending}   {word}_{n}   .{word}   lib{word}.so")
_PATHS = templates("/etc/{file}   /usr/share/{word}/{file}   /home/anna/{file}   ~/{file}   /opt/{word}/{file}")
_SIZES = templates("{n}.{n}{unit}   {nn}{unit}   {n}.{n} {unit}B   {nnn} {unit}iB   {nn} kB   {nnn} B")
_KEYS = templates("Ctrl+{LETTER}   Ctrl+{LETTER}   Shift+Ctrl+{LETTER}   Alt+{LETTER}   F{n}   Del   ⌘{LETTER}")
_FORMAT = re.compile(r"[%{}<>\\|$@]|\.\.\.\w")
_INLINE = "a abbr b bdi code em i kbd mark small span strong sub sup u var".split()
_UNSEEN = {"script", "style", "noscript", "template"}


def _own(name: str) -> Field:
    return lambda texts, language: str(getattr(texts, name)())


class Texts:
    """Texts in one language, by chance.

    Args:
        sentences: what words are taken from.
    """

    fields: ClassVar[Mapping[str, Field]] = {
        **SCREEN_FIELDS,
        **{name: _own(name) for name in ("file", "path", "size", "label", "value", "sentence", "code")},
    }
    """Of templates."""

    def __init__(self, rng: np.random.Generator, language: str, sentences: Sequence[str]) -> None:
        self.rng, self.language, self.sentences = rng, language, sentences

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.rng.integers(len(options)))]

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def integer(self, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``, both included."""
        return int(self.rng.integers(low, high + 1))

    def uniform(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def fill(self, table: Sequence[str]) -> str:
        """One of some templates, filled."""
        return fill(self.pick(table), self.fields, self, self.language)

    def sentence(self) -> str:
        return self.pick(self.sentences)

    def words(self, least: int, most: int) -> str:
        """``least`` to ``most`` words that stand together, mostly with a capital."""
        words, count = self.sentence().split(), self.integer(least, most)
        start = self.integer(0, max(0, len(words) - count))
        text = " ".join(words[start : start + count])
        return text[:1].upper() + text[1:] if self.chance(0.6) else text

    def word(self, language: str = "") -> str:
        """A lower-case word of two letters or more, as in names of files."""
        words: list[str] = re.findall(r"\b[^\W\d_]{2,12}\b", self.sentence())
        return self.pick(words or ["data"]).lower()

    def label(self, longest: int = 32) -> str:
        return self.value() if self.chance(0.3) else self.words(1, 3)

    def value(self) -> str:
        """What may stand in a field or a cell: numbers, dates, sizes, names of files."""
        return self.fill(self.pick([NUMBERS, NUMBERS, NUMBERS, _SIZES, _FILES, _PATHS]))

    def code(self) -> str:
        """A line of a program, a diff, a terminal or a configuration."""
        return "    " * self.integer(0, 3) + self.fill(self.pick([CODE, TERMINAL]))

    def file(self) -> str:
        return self.fill(_FILES)

    def path(self) -> str:
        return self.fill(_PATHS)

    def size(self) -> str:
        return self.fill(_SIZES)

    def keys(self) -> str:
        return self.fill(_KEYS)


class WindowTexts(Texts):
    """Texts of programs, whose labels are messages of libraries."""

    def __init__(self, rng: np.random.Generator, language: str) -> None:
        super().__init__(rng, language, manual_sentences(language))

    def word(self, language: str = "") -> str:
        """A lower-case English word: names of files and terms of programs are English."""
        words: list[str] = re.findall(r"\b[a-z]{2,12}\b", self.pick(manual_sentences("en")))
        return self.pick(words or ["data"])

    def marked(self, longest: int = 44) -> tuple[str, int]:
        """A label and the place of its mnemonic, or -1."""
        groups, weights = labels(self.language)
        for _ in range(40):
            text, at = mnemonic_of(self.pick(groups[int(self.rng.choice(len(groups), p=weights))]))
            text = text.replace("_", " ")
            if len(text) <= longest and "&" not in text:
                break
        else:
            return "OK", -1
        if at < 0 and self.chance(0.3) and text[0].isalpha():
            at = 0
        if self.chance(0.08) and not text.endswith((".", "…", ":")):
            text += self.pick(["…", "..."])
        return text, at

    def label(self, longest: int = 32) -> str:
        return self.marked(longest)[0]

    def value(self) -> str:
        return self.label() if self.chance(0.3) else super().value()


# ---- where the texts are from


def help_sentences(manual: Path, rng: np.random.Generator, files: int = 60) -> list[str]:
    """Sentences of some HTML files in the folder of LibreOffice's help."""
    found = sorted(manual.rglob("*.html"))
    chosen = [found[i] for i in rng.permutation(len(found))[:files]]
    texts = (" ".join(text.split()) for file in chosen for text in html_texts(file))
    return [text for text in texts if 20 < len(text) < 600]


def html_texts(path: Path) -> list[str]:
    """The texts of a web page, one for each element that begins a line."""
    parser = _HtmlTexts()
    parser.feed(path.read_text("utf-8", errors="ignore"))
    parser.close()
    return parser.texts


class _HtmlTexts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.texts = [""]
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._unseen += tag in _UNSEEN
        if tag not in _INLINE:
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._unseen -= tag in _UNSEEN
        if tag not in _INLINE:
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.texts[-1] += data


@lru_cache(maxsize=4)
def manual_sentences(language: str) -> list[str]:
    """Sentences of manual pages, or longer messages where there is no manual in the language."""
    if language not in MANUALS:
        return [text for group in labels(language)[0] for text in group if len(text) > 18 and "&" not in text]
    folder = packages.fetch(MANUALS[language]) / "usr/share/man" / ("" if language == "en" else language)
    texts: dict[str, None] = {}
    for path in sorted(folder.glob("man[1578]/*.gz")):
        for sentence in re.split(r"(?<=[.:;]) ", " ".join(" ".join(roff_lines(path)).split())):
            if 24 < len(sentence) < 220 and numbers_of(sentence) is not None:
                texts[sentence] = None
        if len(texts) > 6000:
            break
    return [*texts]


@lru_cache(maxsize=4)
def labels(language: str) -> tuple[list[list[str]], list[float]]:
    """Short messages of each catalogue in a language, with marks of mnemonics, and weights of the catalogues."""
    found, weights = [], []
    for package, weight in CATALOGUES.items():
        own = "de" if language == "en" else language
        texts: dict[str, None] = {}
        for path in sorted((packages.fetch(package) / "usr/share/locale" / own / "LC_MESSAGES").glob("*.mo")):
            for source, translated in packages.read_messages(path).items():
                text = source if language == "en" else translated
                if isinstance(text, str) and _is_label(text.rpartition("\x04")[2]):
                    texts[text.rpartition("\x04")[2]] = None
        if texts:
            found.append([*texts])
            weights.append(weight)
    return found, [weight / sum(weights) for weight in weights]


def _is_label(text: str) -> bool:
    if not 1 < len(text) <= 44 or text != text.strip() or "\n" in text:
        return False
    if re.match(r"\w+/\w", text) or _FORMAT.search(text) or text.count("_") > 1:
        return False
    return any(map(str.isalpha, text)) and numbers_of(text) is not None


def mnemonic_of(message: str) -> tuple[str, int]:
    """A message without the mark of its mnemonic, ``_`` or ``&``, and where that is, or -1."""
    for mark in "_&":
        at = message.find(mark)
        if message.count(mark) == 1 and at + 1 < len(message) and message[at + 1].isalnum():
            return message[:at] + message[at + 1 :], at
    return message, -1
