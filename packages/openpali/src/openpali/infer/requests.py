"""What a user's text asks for that is no prompt: to read or describe an image, something about it, or neither.

Only bundles that list the names of what they know are asked so: a model that answers anything takes any text.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from openpali.tasks.caption import Caption
from openpali.tasks.ocr import Ocr

_VERBS = {
    Ocr.name: {"read", "transcribe", "extract", "ocr"},
    Caption.name: {"describe", "caption", "description"},
}
_WHAT = {  # words of a request that concerns an image as a whole
    *("please", "can", "could", "you", "me", "to", "for", "out", "all", "of", "the", "this", "that", "its"),
    *("in", "on", "from", "here", "it", "what", "is", "written", "and", "text", "texts", "word", "words", "line"),
    *("lines", "image", "picture", "photo", "screen", "screenshot", "page", "document", "scan", "video"),
    *("a", "an", "give", "write", "detail", "short", "scene", "see"),
}
_PICTURE = re.compile(  # words that ask about an image, whatever is in it
    r"images?|pictures?|photo\w*|drawings?|scene|objects?|things?|shapes?|colou?rs?|present|this|it|moves?|moving|shown"
)
_THERE = re.compile(r"\b(?:is|are) (?:there|no)\b")


def task_of_request(text: str) -> str:
    """The task that a text asks for of an image as a whole: "Read the text", "Describe this image"; else ""."""
    words = set(_words(text))
    return next((task for task, verbs in _VERBS.items() if words & verbs and words <= verbs | _WHAT), "")


def asks_about_image(text: str, names: Collection[str]) -> bool:
    """Whether a text may be a question about an image, since it has a word of these names, or of images."""
    words, known = _words(text), {form for name in names for word in _words(name) for form in _forms(word)}
    if _THERE.search(" ".join(words)):
        return True
    return any(_PICTURE.fullmatch(word) or known.intersection(_forms(word)) for word in words)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _forms(word: str) -> set[str]:
    """A word, and what it may be the plural of; none for one as short as "of"."""
    return {word, word.removesuffix("s"), word.removesuffix("es")} if len(word) > 2 else set()
