"""What is written in windows: labels of menus and dialogs from catalogues of libraries, sentences of manuals, and
values such as dates, sizes, paths and versions."""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

import numpy as np

from openpali.text.characters import numbers_of
from openpali_lab.worlds.builders import packages

CATALOGUES = {
    "libgtk-3-common": 3,
    "libkf5configwidgets-data": 4,
    "libkf5widgetsaddons-data": 2,
    "libkf5xmlgui-data": 3,
    "mate-control-center-common": 4,
    "cinnamon-l10n": 5,
    "gnupg-l10n": 2,
    "apt": 2,
    "iso-codes": 1,
}
"""Debian packages with translated messages of libraries and desktops -> weight. No program of a test is here."""
MANUALS = {"en": "manpages", **{code: f"manpages-{code}" for code in ("de", "fr", "es", "pl", "ru", "uk")}}
LANGUAGES = {
    "en": 0.34,
    "de": 0.08,
    "fr": 0.07,
    "es": 0.06,
    "it": 0.04,
    "pt_BR": 0.04,
    "pl": 0.05,
    "cs": 0.04,
    "hu": 0.02,
    "tr": 0.02,
    "sv": 0.02,
    "ru": 0.07,
    "uk": 0.07,
    "bg": 0.03,
    "el": 0.05,
}
T = TypeVar("T")
OTHER_SCRIPTS = ("ru", "uk", "bg", "el")
_ENDINGS = ["txt", "pdf", "png", "jpg", "html", "py", "c", "h", "tar.gz", "zip", "odt", "csv", "log"]
_ENDINGS += ["conf", "json", "xml", "sh", "md", "mp3", "svg", "db", "so.6", "service"]
_ENDINGS += ["desktop", "deb", "toml", "js", "css", "bak"]
_ROOTS = ["/etc", "/usr/share", "/var/lib", "/home/anna", "/home/user", "~", "/opt", "/usr/lib/x86_64-linux-gnu"]
_KEYS = [
    *"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    *(f"F{n}" for n in range(1, 13)),
    "Del",
    "Enter",
    "Tab",
    "Home",
    "+",
    "-",
    "0",
]
_FORMAT = re.compile(r"[%{}<>\\|$@]|\.\.\.\w")
_ROFF = re.compile(r'\\f.|\\s[+-]?\d|\\&|\\"[^\n]*|\\[|^/,:]|\\\[[^]]*\]|\\\(..|\\\*.')


def mnemonic_of(message: str) -> tuple[str, int]:
    """A message without the mark of its mnemonic, ``_`` or ``&``, and where that is, or -1."""
    for mark in "_&":
        at = message.find(mark)
        if message.count(mark) == 1 and at + 1 < len(message) and message[at + 1].isalnum():
            return message[:at] + message[at + 1 :], at
    return message, -1


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
    if (
        not 1 < len(text) <= 44
        or re.match(r"\w+/\w", text)
        or _FORMAT.search(text)
        or "\n" in text
        or text != text.strip()
    ):
        return False
    return any(map(str.isalpha, text)) and text.count("_") < 2 and numbers_of(text) is not None


@lru_cache(maxsize=4)
def sentences(language: str) -> list[str]:
    """Sentences of manuals, or longer messages where there is no manual in the language."""
    if language not in MANUALS:
        return [text for group in labels(language)[0] for text in group if len(text) > 18 and "&" not in text]
    folder = packages.fetch(MANUALS[language]) / "usr/share/man" / ("" if language == "en" else language)
    texts: dict[str, None] = {}
    for path in sorted(folder.glob("man[1578]/*.gz")):
        text = " ".join(
            line
            for line in gzip.decompress(path.read_bytes()).decode("utf-8", "replace").splitlines()
            if line and line[0] not in ".'"
        )
        for sentence in re.split(r"(?<=[.:;]) ", _ROFF.sub("", text.replace("\\-", "-").replace("\\(aq", "'"))):
            clean = " ".join(sentence.split())
            if 24 < len(clean) < 220 and "\\" not in clean and numbers_of(clean) is not None:
                texts[clean] = None
        if len(texts) > 6000:
            break
    return [*texts]


class Texts:
    """Texts of a window in one language, by chance."""

    def __init__(self, rng: np.random.Generator, language: str) -> None:
        self.rng, self.language = rng, language

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.rng.integers(len(options)))]

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def between(self, least: int, most: int) -> int:
        return int(self.rng.integers(least, most + 1))

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

    def sentence(self) -> str:
        return self.pick(sentences(self.language))

    def words(self, least: int, most: int) -> str:
        words = self.sentence().split()
        return " ".join(words[: self.between(least, most)])

    def word(self) -> str:
        words = re.findall(r"[^\W\d_]{3,}", self.sentence())
        return self.pick(words) if words else "data"

    def term(self) -> str:
        """A lower-case English word, as in names of files."""
        words = re.findall(r"\b[a-z]{2,12}\b", self.pick(sentences("en")))
        return self.pick(words) if words else "data"

    def file(self) -> str:
        name = self.term() if self.chance(0.7) else self.term().title()
        if self.chance(0.4):
            name += self.pick(["-", "_", ".", "-v", "_0", "."]) + str(self.between(0, 2030))
        if self.chance(0.15):
            name = self.pick([".", "__", "lib", "test_"]) + name
        return name if self.chance(0.2) else f"{name}.{self.pick(_ENDINGS)}"

    def path(self) -> str:
        parts = [self.pick(_ROOTS), *(self.term() for _ in range(self.between(0, 2))), self.file()]
        return "/".join(parts)

    def number(self) -> str:
        kind, rng = self.between(0, 6), self.rng
        if kind < 2:
            return str(self.between(0, 9 if kind else 120))
        if kind == 2:
            return f"{10 ** rng.uniform(0, 6):,.{self.between(0, 2)}f}"
        if kind == 3:
            return f"{rng.uniform(-99, 999):.{self.between(1, 4)}f}"
        if kind == 4:
            return f"{self.between(0, 100)}{self.pick(['%', ' %', '%'])}"
        return str(int(10 ** rng.uniform(1, 8)))

    def size(self) -> str:
        value = 10 ** self.rng.uniform(0, 3)
        unit = self.pick(["K", "M", "G", "T", " KB", " MB", " GB", " KiB", " MiB", " GiB", " kB", " B", "B", "k"])
        return f"{value:.{0 if value >= 10 and self.chance(0.6) else 1}f}{unit}"

    def time(self) -> str:
        h, m, s = self.between(0, 23), self.between(0, 59), self.between(0, 59)
        return self.pick(
            [f"{h:02}:{m:02}", f"{h}:{m:02}:{s:02}", f"{h:02}:{m:02}:{s:02}.{s * 13:03}", f"{m}m{s:02}s"]
        )

    def date(self) -> str:
        y, m, d = self.between(1998, 2031), self.between(1, 12), self.between(1, 28)
        month = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[m - 1]
        return self.pick(
            [
                f"{y}-{m:02}-{d:02}",
                f"{d:02}.{m:02}.{y}",
                f"{m}/{d}/{y % 100:02}",
                f"{d} {month} {y}",
                f"{month} {d:2}",
            ]
        )

    def version(self) -> str:
        main = f"{self.between(0, 14)}.{self.between(0, 40)}.{self.between(0, 12)}"
        return self.pick([main, f"{main}-{self.between(1, 9)}", f"{main}+dfsg-{self.between(1, 4)}", f"v{main}"])

    def address(self) -> str:
        parts = [str(self.between(1, 254)) for _ in range(4)]
        word = self.term()
        return self.pick(
            [
                ".".join(parts),
                f"{word}@example.org",
                f"https://www.{word}.org/{self.file()}",
                f"fe80::{parts[0]}:{parts[1]}",
            ]
        )

    def hash(self) -> str:
        return "".join(self.pick([*"0123456789abcdef"]) for _ in range(self.pick([7, 8, 12, 16, 40])))

    def keys(self) -> str:
        key: str = self.pick(_KEYS)
        if self.chance(0.06):
            return self.pick(["⌘", "⇧⌘", "⌥⌘"]) + key
        held = self.pick(["Ctrl+", "Ctrl+", "Ctrl+", "Ctrl+Shift+", "Alt+", "Shift+", ""])
        return held + key if held or len(key) > 1 else f"Ctrl+{key}"

    def value(self) -> str:
        """What may stand in a field or a cell."""
        kinds = [self.number, self.number, self.size, self.time, self.date, self.version, self.file, self.path]
        kinds += [self.address, self.hash, self.label, self.label, self.label, self.word]
        return self.pick(kinds)()

    def code(self) -> str:
        """A line of a program, a diff or a configuration."""
        a, b, f = (self.term() for _ in range(3))
        n, indent = self.number().replace(",", ""), "    " * self.between(0, 3)
        line = self.pick(
            [
                f"def __{a}__(self, {b}: int = {n}) -> None:",
                f"for {a}, {b} in enumerate({f}.items()):",
                f"{a}[\"{b}\"] = {f}({n}, '{self.file()}')",
                f"if (!{a}->{b} && {f}[i] != 0x{self.hash()[:4]}) {{",
                f"return {a}.{b}(*args, **kwargs)  # {self.words(2, 6)}",
                f"/* {self.words(3, 7)} */",
                f"#define {a.upper()}_{b.upper()} ({n} << {self.between(0, 16)})",
                f"static int {a}_{b}(struct {f} *p, size_t n);",
                f"{a}-{b}: {self.value()}",
                f"{a.upper()}={self.path()}",
                f"import {a}.{b} as {f[:2]}",
                f'printf("%d: %s\\n", {a}[{n}], {b}++);',
                f"let mut {a} = {b}::new(&{f}, {n})?;",
                f"assert {a} == {{'{b}': [{n}, None], '{f}': ()}}",
                f"$ {a} --{b}={n} -x {self.file()} | grep -v '{f}' > /dev/null 2>&1",
                f"<{a} class=\"{b}\" id='{f}-{n}'>{self.word()}</{a}>",
                f"+ {self.words(2, 6)}",
                f"- {self.words(2, 6)}",
                "}",
                "});",
                "else:",
                "",
            ]
        )
        return indent + line
