"""Names of icons of many sets, made comparable: without style, in any order of words, one word for one sign."""

from __future__ import annotations

import re
from collections.abc import Iterable

_STYLES = """
outline outlined line linear fill filled solid regular rounded round sharp bold thin duotone duo light twotone
broken alt o remix variant stroke flat logo
""".split()
_SIZE = re.compile(r"(8|10|12|14|16|18|20|24|28|32|36|48)(px)?")
_VARIANT = re.compile(r"0?[1-9]")
_COUNTED = """
number numeric num dice counter looks filter battery signal level letter timer
""".split()
"""Words after which a number is part of the name, and not of a variant."""


def _synonyms(table: str, comma: str) -> dict[str, str]:
    """What designers call the same sign -> the word that stands for all, from lines ``WORD: SYNONYMS``."""
    rows = (line.split(": ") for line in table.strip().splitlines())
    return {synonym: word for word, synonyms in rows for synonym in synonyms.split(comma)}


_PHRASES = _synonyms(
    """
cart: shopping cart
check: check mark
lightbulb: light bulb
login: log in, sign in
logout: log out, sign out
map pin: map marker, location pin
question: question mark
search: magnifying glass
shirt: t shirt
smartphone: mobile phone
stackoverflow: stack overflow
trash: trash can
""",
    ", ",
)
_WORDS = _synonyms(
    """
check: checkmark tick
chevron: angle
clock: time
ellipsis: dots more
eye: visibility
file: document
fire: flame
globe: earth world
home: house
image: photo picture
info: information
lightbulb: bulb
lightning: bolt flash zap
mail: email envelope
map pin: location marker place
microphone: mic
minus: subtract
phone: call telephone
plane: airplane
plus: add
question: help
refresh: reload
search: magnifier magnify
settings: cog gear
shirt: tshirt
smartphone: mobile
sofa: couch
thumb: thumbs
trash: bin delete trashcan
user: person account
users: people
warning: alert
x: close cross times xmark
""",
    " ",
)
_MODIFIERS = {"slash": "off", "disabled": "off", "h": "horizontal", "v": "vertical"}
"""The same for words that mean something else alone."""


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
