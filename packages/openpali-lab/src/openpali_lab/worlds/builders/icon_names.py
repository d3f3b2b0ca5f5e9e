"""Names of icons of many sets, made comparable: without style, in any order of words, one word for one sign."""

from __future__ import annotations

import re
from collections.abc import Iterable

from openpali_lab.tables import table_of

_SIZE = re.compile(r"(8|10|12|14|16|18|20|24|28|32|36|48)(px)?")
_VARIANT = re.compile(r"0?[1-9]")
_TABLE = table_of(__file__)
_STYLES, _COUNTED = _TABLE["styles"], _TABLE["counted"]
# what designers call the same sign -> the word that stands for all
_PHRASES, _WORDS, _MODIFIERS = (
    {synonym: word for word, synonyms in _TABLE[kind].items() for synonym in synonyms}
    for kind in ("phrases", "words", "modifiers")
)


def words_of(name: str, prefixes: Iterable[str] = (), suffixes: Iterable[str] = ()) -> tuple[str, ...]:
    """The words of an icon's name, without those that tell its style, size or variant; in the name's order.

    Args:
        prefixes, suffixes: those by which its set tells styles apart.
    """
    name = next((name[len(p) + 1 :] for p in _longest(prefixes) if p and name.startswith(f"{p}-")), name)
    name = next((name[: -len(s) - 1] for s in _longest(suffixes) if s and name.endswith(f"-{s}")), name)
    words = name.split("-")
    while len(words) > 1:
        last = words[-1]
        variant = _VARIANT.fullmatch(last) and words[0] not in _COUNTED
        if not (last in _STYLES or _SIZE.fullmatch(last) or variant):
            break
        words.pop()
    text = f" {' '.join(words)} "
    for phrase, word in _PHRASES.items():
        text = text.replace(f" {phrase} ", f" {word} ")
    words = [part for word in text.split() for part in _WORDS.get(word, word).split()]
    if len(words) > 1:
        words = [_MODIFIERS.get(word, word) for word in words]
    return tuple(dict.fromkeys(words))


def _longest(parts: Iterable[str]) -> list[str]:
    return sorted(parts, key=len, reverse=True)
