"""Wording that error messages and reports share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def reason(error: BaseException) -> str:
    """What an error says, with its type (``KeyError: 'config'``) unless it is a plain ``ValueError``."""
    return str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"


def shorten(text: str, length: int) -> str:
    """The text, cut to ``length`` characters that end in "..." if it is longer."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def hint(name: str, known: Iterable[str]) -> str:
    """What to say about an unknown name: ``did you mean 'caption'?``, or all known names where none is near."""
    names = list(known)
    if near := difflib.get_close_matches(name, names, n=1):
        return f"did you mean {near[0]!r}?"
    return f"there are: {', '.join(names)}" if names else "there are none"
