"""Wording that error messages and reports share."""

from __future__ import annotations


def name_error(error: BaseException) -> str:
    """An error with its type, ``KeyError: 'config'``, since the text of some errors alone says nothing."""
    return f"{type(error).__name__}: {error}"


def shorten(text: str, length: int) -> str:
    """The text, cut to ``length`` characters that end in "..." if it is longer."""
    return text if len(text) <= length else f"{text[: length - 3]}..."
