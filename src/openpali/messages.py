"""Wording that error messages and reports share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def name_error(error: BaseException) -> str:
    """An error with its type, ``KeyError: 'config'``, since the text of some errors alone says nothing."""
    return f"{type(error).__name__}: {error}"


def shorten(text: str, length: int) -> str:
    """The text, cut to ``length`` characters that end in "..." if it is longer."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def hint(name: str, known: Iterable[str]) -> str:
    """What to say about an unknown name: ``did you mean 'caption'?``, or all known names where none is near."""
    names = list(known)
    if near := difflib.get_close_matches(name, names, n=1):
        return f"did you mean {near[0]!r}?"
    return f"there are: {', '.join(names)}" if names else "there are none"
