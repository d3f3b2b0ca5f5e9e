"""Stems of English words, as NLTK's ``PorterStemmer`` finds them by default.

Porter's algorithm (Program 14, 1980) with NLTK's extensions: irregular words, and one stem of "spy" and "spied".
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise


def _rules(text: str) -> list[tuple[str, str]]:
    """Endings with what takes their place, in the order in which they are looked for."""
    return [(ending, new) for ending, _, new in (rule.partition("-") for rule in text.split())]


_IRREGULAR = dict(
    _rules(
        "skies-sky dying-die lying-lie tying-tie innings-inning outings-outing cannings-canning sky-sky news-news "
        "inning-inning outing-outing canning-canning howe-howe proceed-proceed exceed-exceed succeed-succeed"
    )
)
_PLURALS = _rules("sses-ss ies-i ss-ss s-")
_SUFFIXES = _rules(
    "ational-ate tional-tion enci-ence anci-ance izer-ize bli-ble alli-al entli-ent eli-e ousli-ous ization-ize "
    "ation-ate ator-ate alism-al iveness-ive fulness-ful ousness-ous aliti-al iviti-ive biliti-ble fulli-ful "
    "logi-log"
)
_ENDINGS = _rules("icate-ic ative- alize-al iciti-ic ical-ic ful- ness-")
_LAST = _rules("al- ance- ence- er- ic- able- ible- ant- ement- ment- ent- ion- ou- ism- ate- iti- ous- ive- ize-")


def stem(word: str) -> str:
    """The stem of a word in lower case; it need not be a word, as "poni" of "ponies"."""
    if word in _IRREGULAR or len(word) <= 2:
        return _IRREGULAR.get(word, word)
    word = _without_tense(_without_plural(word))
    if word.endswith("y") and len(word) > 2 and _consonants(word)[-2]:
        word = word[:-1] + "i"
    word = _without_suffix(word)
    ending, new = _first(word, _ENDINGS)
    if ending and _measure(word[: -len(ending)]) > 0:
        word = word[: -len(ending)] + new
    return _shortened(_without_last(word))


def _without_plural(word: str) -> str:
    ending, new = ("ies", "ie") if word.endswith("ies") and len(word) == 4 else _first(word, _PLURALS)
    return word.removesuffix(ending) + new


def _without_tense(word: str) -> str:
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    ending = next((e for e in ("ed", "ing") if word.endswith(e) and not all(_consonants(word[: -len(e)]))), "")
    if not ending:
        return word
    word = word[: -len(ending)]
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if word[-1:] == word[-2:-1] and _consonants(word)[-1]:
        return word if word[-1] in "lsz" else word[:-1]
    if word.endswith("*d"):  # the name of the rule above, which NLTK takes for an ending as well
        return word[:-2] + "d"
    return word + "e" if _measure(word) == 1 and _ends_short(word) else word


def _without_suffix(word: str) -> str:
    if word.endswith("alli") and _measure(word[:-4]) > 0:
        word = word[:-2]
    ending, new = _first(word, _SUFFIXES)
    kept = word[:-3] if ending == "logi" else word.removesuffix(ending)
    return word.removesuffix(ending) + new if _measure(kept) > 0 else word


def _without_last(word: str) -> str:
    ending, _ = _first(word, _LAST)
    kept = word.removesuffix(ending)
    return kept if _measure(kept) > 1 and (ending != "ion" or kept[-1] in "st") else word


def _shortened(word: str) -> str:
    """Without an e or a second l at the end."""
    if word.endswith("e"):
        measure = _measure(word[:-1])
        if measure > 1 or (measure == 1 and not _ends_short(word[:-1])):
            word = word[:-1]
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word


def _first(word: str, rules: Iterable[tuple[str, str]]) -> tuple[str, str]:
    return next((rule for rule in rules if word.endswith(rule[0])), ("", ""))


def _measure(word: str) -> int:
    """How often a vowel is before a consonant: Porter's m."""
    flags = _consonants(word)
    return sum(after and not before for before, after in pairwise(flags))


def _ends_short(word: str) -> bool:
    """Whether it ends as "hop", in a vowel between consonants, the last no w, x or y, or is a word as "up"."""
    flags = _consonants(word)
    if len(word) == 2:
        return flags == [False, True]
    return flags[-3:] == [True, False, True] and word[-1] not in "wxy"


def _consonants(word: str) -> list[bool]:
    """Of each character, whether it is no vowel; y is one after a consonant."""
    flags: list[bool] = []
    for char in word:
        flags.append(char not in "aeiou" and not (char == "y" and flags and flags[-1]))
    return flags
