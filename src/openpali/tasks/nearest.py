"""What to say about a name that nothing has."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def hint(name: str, known: Iterable[str]) -> str:
    """``did you mean 'caption'?`` for the known name nearest to ``name``, or all of them where none is near."""
    names = list(known)
    if near := difflib.get_close_matches(name, names, n=1):
        return f"did you mean {near[0]!r}?"
    return f"there are: {', '.join(names)}" if names else "there are none"
