"""Levenshtein distance, shared by ANLS, the OCR error rates and scores of pages."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Minimum number of insertions, deletions and substitutions that turn ``a`` into ``b``.

    Compares the characters of two strings, or the items of two lists.
    A column of the table of distances is two integers with a bit for each item (Myers 1999; Hyyrö 2003, figure 8).
    """
    if len(a) < len(b):
        a, b = b, a
    places: dict[Hashable, int] = {}
    for i, x in enumerate(a):
        places[x] = places.get(x, 0) | 1 << i
    full, last = (1 << len(a)) - 1, 1 << len(a) >> 1
    more, less = full, 0  # where a distance is one above the one before it in the column, or below
    distance = len(a)
    for y in b:
        same = places.get(y, 0)
        diagonal = (((same & more) + more) ^ more) | same | less
        right, left = less | ~(diagonal | more), more & diagonal
        distance += bool(right & last) - bool(left & last)
        right, left = right << 1 | 1, left << 1
        more, less = (left | ~(diagonal | right)) & full, right & diagonal & full
    return distance
