"""Names of icons of many sets, made comparable: without style, in any order of words, one word for one sign."""

from __future__ import annotations

import re
from collections.abc import Iterable

_STYLES = frozenset(
    [
        "outline",
        "outlined",
        "line",
        "linear",
        "fill",
        "filled",
        "solid",
        "regular",
        "rounded",
        "round",
        "sharp",
        "bold",
        "thin",
        "duotone",
        "duo",
        "light",
        "twotone",
        "broken",
        "alt",
        "o",
        "remix",
        "variant",
        "stroke",
        "flat",
        "logo",
    ]
)
_SIZE = re.compile(r"(8|10|12|14|16|18|20|24|28|32|36|48)(px)?")
_VARIANT = re.compile(r"0?[1-9]")
_COUNTED = frozenset(
    [
        "number",
        "numeric",
        "num",
        "dice",
        "counter",
        "looks",
        "filter",
        "battery",
        "signal",
        "level",
        "letter",
        "timer",
    ]
)
"""Words after which a number is part of the name, and not of a variant."""
_PHRASES = {
    "magnifying glass": "search",
    "trash can": "trash",
    "question mark": "question",
    "check mark": "check",
    "light bulb": "lightbulb",
    "map marker": "map pin",
    "location pin": "map pin",
    "shopping cart": "cart",
    "mobile phone": "smartphone",
    "log in": "login",
    "sign in": "login",
    "log out": "logout",
    "sign out": "logout",
    "stack overflow": "stackoverflow",
    "t shirt": "shirt",
}
_WORDS = {
    "add": "plus",
    "airplane": "plane",
    "alert": "warning",
    "angle": "chevron",
    "bin": "trash",
    "bolt": "lightning",
    "bulb": "lightbulb",
    "call": "phone",
    "checkmark": "check",
    "close": "x",
    "cog": "settings",
    "couch": "sofa",
    "cross": "x",
    "delete": "trash",
    "document": "file",
    "dots": "ellipsis",
    "earth": "globe",
    "email": "mail",
    "envelope": "mail",
    "flame": "fire",
    "flash": "lightning",
    "gear": "settings",
    "help": "question",
    "house": "home",
    "information": "info",
    "location": "map pin",
    "magnifier": "search",
    "magnify": "search",
    "marker": "map pin",
    "mic": "microphone",
    "mobile": "smartphone",
    "more": "ellipsis",
    "people": "users",
    "person": "user",
    "account": "user",
    "photo": "image",
    "picture": "image",
    "place": "map pin",
    "reload": "refresh",
    "subtract": "minus",
    "telephone": "phone",
    "thumbs": "thumb",
    "tick": "check",
    "time": "clock",
    "times": "x",
    "trashcan": "trash",
    "tshirt": "shirt",
    "visibility": "eye",
    "world": "globe",
    "xmark": "x",
    "zap": "lightning",
}
"""What designers call the same sign -> the word that stands for all."""
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
