"""What people say of an element, as a grammar. Words that are not in it are the name of the element.

    expression  = thing [relation expression] [in container] | container
    thing       = {place | ordinal} {word} [role] [from side]
    relation    = left of | right of | above | below | next to | ...
    container   = {place | ordinal | word} kind [number | (of | with | as) word {word}]
    kind        = row | column | table | list | tool bar | menu bar | dialog | window | form | group | screen

"the second Delete button", "the last but one row", "the field below Name", "Save in the dialog", "the icon right of
Edit in the row of Ada".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_WORDS = {
    ("button",): ("button", "btn", "push button"),
    ("button", "link", "tab"): ("menu item", "menu entry", "list item"),
    ("checkbox",): ("checkbox", "check box", "tickbox", "tick box"),
    ("columnheader",): ("columnheader", "column header", "column"),
    ("combobox", "listbox"): (
        *("combobox", "combo box", "listbox", "list box", "list"),
        *("dropdown", "drop down", "select", "select box"),
    ),
    ("heading",): ("heading", "title", "header"),
    ("icon",): ("icon", "symbol"),
    ("image",): ("image", "picture", "photo", "avatar", "logo"),
    ("link",): ("link", "hyperlink"),
    ("progressbar",): ("progressbar", "progress bar", "progress"),
    ("radio",): ("radio", "radiobutton", "radio button", "option button"),
    ("slider",): ("slider",),
    ("switch",): ("switch", "toggle", "toggle button", "toggle switch"),
    ("tab",): ("tab",),
    ("textbox",): ("textbox", "textarea", "text area", "field", "input", "searchbox", "box", "spin box", "spinbox"),
}
_ROLES = {
    form: roles
    for roles, words in _WORDS.items()
    for word in words
    for form in (word, f"{word}es" if word.endswith(("s", "x", "ch")) else f"{word}s")
}
"""Words that name roles."""
_KINDS = {
    "row": "row",
    "column": "column",
    "table": "table|grid",
    "list": "list",
    "toolbar": "tool ?bar",
    "menubar": "menu ?bar",
    "menu": "menu",
    "dialog": "dialog(?: box)?|pop-?up|message box|modal",
    "window": "window",
    "form": "form",
    "group": "group|section|panel|card",
    "screen": "screen|page",
}
"""Roles of containers in the tree, and words for them."""
_FILLERS = {
    *("a", "an", "the", "of", "in", "on", "at", "to", "for"),
    *("with", "this", "that", "its", "text", "named", "called"),
}
_RELATIONS = {
    **{relation: relation for relation in ("right of", "left of", "above", "below", "next to")},
    **dict.fromkeys(("over", "on top of"), "above"),
    **dict.fromkeys(("underneath", "under", "beneath"), "below"),
    **dict.fromkeys(("beside", "near", "nearest to", "closest to", "adjacent to"), "next to"),
}
_RELATION = re.compile(
    rf"\b(?:to the |on the )?({'|'.join(sorted(_RELATIONS, key=len, reverse=True))})\b(?!(?<=next to) last\b)", re.I
)
_PLACES = {"top": (0, -1), "upper": (0, -1), "bottom": (0, 1), "lower": (0, 1), "left": (1, -1), "right": (1, 1)}
_ALONG = {f"from {side}": (axis, -sign) for side, (axis, sign) in _PLACES.items()}
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_ORDER = {word: number for number, word in enumerate(_ORDINALS)}
_ORDER |= {f"{n}{end}": n - 1 for n in range(1, 100) for end in ("st", "nd", "rd", "th")}
_ORDER |= {"last": -1, "from last": -1, "from end": -1, "penultimate": -2}
_FROM_LAST = (("last but one", "second last"), ("last but two", "third last"), ("next to last", "second last"))
_OTHERWISE = frozenset((*_ROLES, *_PLACES, *_ALONG, *_ORDER))
"""Words that say what or where an element is, or are a part of its name."""
_IN = re.compile(r"\s(?:in|inside|within|on|of|from)\s", re.I)
_DEEPEST = 8  # words such as "in" up to the one before the last container
_CONTAINER = re.compile(
    r"(?:(?:the|a|this|that)\s)?(?:same\s)?(?P<before>(?:.+\s)?)"
    rf"(?:{'|'.join(f'(?P<{kind}>{words})' for kind, words in _KINDS.items())})"
    r"(?:\s(?P<number>\d+)|"
    r"(?P<after>\s(?:of|with|as|for|from|named|called|containing|that (?:has|contains))\s.+))?",
    re.I,
)


class ElementQuery(NamedTuple):
    """A thing of an expression taken apart.

    Attributes:
        words: that name the element.
        roles: that it may have; empty: any.
        places: axis (0: down, 1: right) and sign of where it is.
        order: its number among those that fit, from 0, or from -1 backwards.
        along: axis and sign of the direction in which they are counted; None: reading order.
    """

    words: Sequence[str]
    roles: Sequence[str]
    places: Sequence[tuple[int, int]]
    order: int | None
    along: tuple[int, int] | None = None

    @classmethod
    def of(cls, text: str) -> ElementQuery:
        words: list[str] = []
        roles: list[str] = []
        places, order, along = [], None, None
        for word in _terms(text):
            if word in _ROLES:
                roles += _ROLES[word]
            elif word in _PLACES:
                places.append(_PLACES[word])
            elif word in _ALONG:
                along = _ALONG[word]
            elif word in _ORDER:
                order = _ORDER[word] - (order or 0)  # "second last" is -2
            elif word not in _FILLERS:
                words.append(word)
        return cls(words, roles, places, order, along)

    @classmethod
    def named(cls, text: str) -> ElementQuery:
        """The same if all words before a role are a name: "Last Name field", "Icons link"."""
        terms = [term for term in _terms(text) if term not in _FILLERS]
        roles = _ROLES.get(terms[-1], ()) if terms else ()
        return cls(words_of(" ".join(terms[:-1] if roles else terms)), roles, (), None)

    @property
    def is_name(self) -> bool:
        """Whether its words may be a name that has words of roles, places or numbers."""
        return bool(_OTHERWISE.intersection(self.words))

    @property
    def names_more(self) -> bool:
        """Whether it has words that are neither places nor ordinals."""
        return bool(set(self.words) - _PLACES.keys() - _ORDER.keys())


class Container(NamedTuple):
    """Where a thing is: the kind of container, as roles of the tree, and which of them."""

    kind: str
    which: ElementQuery

    @classmethod
    def of(cls, text: str) -> Container | None:
        """ "the second row", "row 2", "the row of Ada"; None: the text names no container."""
        match = _CONTAINER.fullmatch(" ".join(re.sub(r"['’]s\b", "", text).split()))
        if match is None:
            return None
        which = ElementQuery.of(f"{match['before']}{match['after'] or ''}")
        words = [word for word in which.words if word not in ("as", "containing", "has", "contains")]
        order = int(match["number"]) - 1 if match["number"] else which.order
        return cls(next(kind for kind in _KINDS if match[kind]), which._replace(words=words, order=order))


class Relation(NamedTuple):
    """A thing, on which side of another it is, and that other one."""

    thing: str
    side: str
    anchor: str

    @classmethod
    def of(cls, text: str) -> Relation | None:
        match = _RELATION.search(text)
        return match and cls(text[: match.start()], _RELATIONS[match[1].casefold()], text[match.end() :])


def containment(text: str) -> tuple[str, Container] | None:
    """A text as a thing in a container, the last that it names; None: it names none, or too many."""
    places = [*_IN.finditer(text)]
    for place in reversed(places[:_DEEPEST]):
        if container := Container.of(text[place.end() :]):
            return text[: place.start()], container
    return None


def roles_of(text: str) -> Sequence[str]:
    """The roles that a text of one term names; empty: none."""
    return _ROLES.get(text, ())


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def telling(text: str) -> list[str]:
    """Words that are no fillers."""
    return [word for word in words_of(text) if word not in _FILLERS]


def _terms(text: str) -> list[str]:
    """Words; those that say one thing together, such as "radio button" and "from right", are one term."""
    terms: list[str] = []
    text = " ".join(words_of(text)).replace("from the ", "from ")
    for words, other in _FROM_LAST:
        text = text.replace(words, other)
    for word in text.split():
        if terms and (pair := f"{terms[-1]} {word}") in _OTHERWISE:
            terms[-1] = pair
        else:
            terms.append(word)
    return terms
