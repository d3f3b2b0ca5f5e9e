"""What printed lines say: parts of a manual's lines, labels, code and numbers."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from openpali_lab.tables import table_of
from openpali_lab.worlds.sampler import TRIES, Sampler
from openpali_lab.worlds.splits import is_heldout


class Draws(Protocol):
    """What fields of templates are drawn with."""

    def integer(self, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``, both included."""

    def uniform(self, low: float, high: float) -> float: ...

    def word(self, language: str) -> str: ...


Field = Callable[[Draws, str], str]
"""Draws what stands in a field, in a language."""


def templates(table: str) -> list[str]:
    """Texts with ``{fields}``, which stand three spaces apart; see :func:`fill`."""
    return [template for line in table.strip().splitlines() for template in line.split("   ")]


def fill(template: str, fields: Mapping[str, Field], draws: Draws, language: str) -> str:
    """Draw each ``{field}`` of a template by the function of its name; ``{field:>8}`` is padded as Python does."""
    return re.sub(
        r"\{(\w+)(?::([<>]?\d+))?\}",
        lambda found: format(fields[found[1]](draws, language), found[2] or ""),
        template,
    )


_TABLE = table_of(__file__)
NUMBERS, LABELS, CODE = _TABLE["numbers"], _TABLE["labels"], _TABLE["code"]
MONTHS = _TABLE["months"]


def line_text(sampler: Sampler, most: int) -> tuple[str, str]:
    """A text of 1 to ``most`` characters from the sample's split, and its language. Half are cut from a manual."""
    languages = sorted(sampler.world.prose)
    for _ in range(TRIES):
        language = languages[sampler.integer(0, len(languages) - 1)]
        chance = sampler.uniform(0, 1)
        if chance < 0.5:
            text = _cutting(sampler, language, most)
        else:
            table = LABELS if chance < 0.7 else CODE if chance < 0.85 else NUMBERS
            text = fill(table[sampler.integer(0, len(table) - 1)], FIELDS, sampler, language)
        if 1 <= len(text) <= most and is_novel(text) == sampler.heldout:
            return text, language
    raise ValueError(
        f"the world {sampler.world.name} has no {sampler.split} line of {most} characters: allow longer ones"
    )


def is_novel(text: str) -> bool:
    """Whether a line is held out: for one of its words, or as a whole."""
    return is_heldout("line", text) or has_novel_word(text)


def has_novel_word(text: str) -> bool:
    """Whether a word of a line is held out."""
    apart = re.sub(r"(?<=[^\W\d_A-ZÀ-Þ])(?=[A-ZÀ-Þ])", " ", text)  # camelCase is two words
    words = re.findall(r"[^\W\d_]{2,}", apart)
    return any(is_heldout("word", word.lower()) for word in words)


def _cutting(sampler: Sampler, language: str, most: int) -> str:
    """Consecutive words of a line of the manual, as many as fit into a random length."""
    lines = sampler.world.prose[language]
    words = lines[sampler.integer(0, len(lines) - 1)].split()
    room = sampler.integer(most // 3, most)
    kept: list[str] = []
    for word in words[sampler.integer(0, len(words) - 1) :]:
        room -= len(word) + bool(kept)
        if room < 0:
            break
        kept.append(word)
    return " ".join(kept)


def _month(draws: Draws, language: str) -> str:
    month: str = MONTHS.get(language, MONTHS["en"]).split()[draws.integer(0, 11)]
    return month


def _digits(count: int) -> Field:
    return lambda draws, language: f"{draws.integer(0, 10**count - 1):0{count}}"


def _within(low: int, high: int) -> Field:
    return lambda draws, language: f"{draws.integer(low, high):02}"


def one_of(choices: Sequence[str]) -> Field:
    return lambda draws, language: choices[draws.integer(0, len(choices) - 1)]


def _letters(alphabet: str, most: int) -> Field:
    def draw(draws: Draws, language: str) -> str:
        count = draws.integer(1, most)
        return "".join(alphabet[draws.integer(0, len(alphabet) - 1)] for _ in range(count))

    return draw


FIELDS: Mapping[str, Field] = {
    "word": lambda draws, language: draws.word(language),
    "Word": lambda draws, language: draws.word(language).capitalize(),
    "WORD": lambda draws, language: draws.word(language).upper(),
    "monthname": _month,
    "Monthname": lambda draws, language: _month(draws, language).capitalize(),
    "count": lambda draws, language: f"{int(10 ** draws.uniform(0, 4))}",
    "n": _digits(1),
    "nn": _digits(2),
    "nnn": _digits(3),
    "nnnn": _digits(4),
    "day": _within(1, 31),
    "month": _within(1, 12),
    "year": _within(1900, 2039),
    "hour": _within(0, 23),
    "minute": _within(0, 59),
    "hex": _letters("0123456789abcdef", 8),
    "letter": _letters(string.ascii_letters, 1),
    "letters": _letters(string.ascii_uppercase, 4),
    "ending": one_of(_TABLE["endings"]),
    "domain": one_of(_TABLE["domains"]),
}
