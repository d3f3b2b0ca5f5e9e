"""What a user's text asks for that is no prompt: to read an image, something about it, or neither.

Only bundles that list the names of what they know are asked so: a model that answers anything takes any text.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_READS = {"read", "transcribe", "extract", "ocr"}
_WHAT = {  # words of a request to read all text of an image
    *("please", "can", "could", "you", "me", "to", "for", "out", "all", "of", "the", "this", "that", "its"),
    *("in", "on", "from", "here", "it", "what", "is", "written", "and", "text", "texts", "word", "words", "line"),
    *("lines", "image", "picture", "photo", "screen", "screenshot", "page", "document", "scan"),
}
_PICTURE = re.compile(  # words that ask about an image, whatever is in it
    r"images?|pictures?|photo\w*|drawings?|scene|objects?|things?|shapes?|colou?rs?|present|this|it|moves?|moving|shown"
)
_THERE = re.compile(r"\b(?:is|are) (?:there|no)\b")


def asks_to_read(text: str) -> bool:
    """Whether a text asks to read an image, all of it: "Read the text"."""
    words = set(_words(text))
    return bool(words & _READS) and words <= _READS | _WHAT


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
