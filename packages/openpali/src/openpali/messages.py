"""Texts shared by error messages and reports."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LISTED = 24  # as many names as fit in a message


def shorten(text: str, length: int) -> str:
    """The text, cut to ``length`` characters that end in "..." if it is longer."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def duration(seconds: float) -> str:
    """A length of time, in the largest unit of which it has two or more: "90 s", "12 min", "3.4 h", "2.5 days"."""
    for size, unit in ((86_400, "days"), (3600, "h")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    if seconds >= 120:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The known name most similar to an unknown one; ``None`` if none reaches a similarity of ``cutoff`` (0..1)."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)


def hint(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """The end of an error about an unknown name: ``did you mean 'caption'?``, or else the known names.

    Of more than :data:`LISTED`, the five that are most similar.
    """
    names = list(known)
    if near := nearest(name, names, cutoff=cutoff):
        return f"did you mean {near!r}?"
    if len(names) > LISTED:
        return (
            f"the nearest of {len(names)} are: {', '.join(difflib.get_close_matches(name, names, n=5, cutoff=0))}"
        )
    return f"there are: {', '.join(names)}" if names else "there are none"


def cannot_import(needs: str, install: str, error: BaseException) -> str:
    """The error that an optional package cannot be imported, and why at root: it may be there, and broken.

    Args:
        needs: what needs which package, as in "videos need PyAV".
        install: what pip installs, as in "openpali[video]".
        error: of the import. torchvision beside a torch of another build raises ``RuntimeError``.
    """
    while error.__cause__:
        error = error.__cause__
    return f"{needs}: pip install {install!r} (the import failed: {shorten(' '.join(str(error).split()), 300)})"


def printable(text: str) -> str:
    """A text with its unpaired surrogates escaped, as in names of files: JSON can hold them, and UTF-8 cannot."""
    return text.encode("utf-8", "backslashreplace").decode()
