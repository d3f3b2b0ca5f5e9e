"""Referring expressions that fit exactly one object of a scene, from geometry alone.

The rules, where ``e`` is an eighth of the image's side and a centre is the centre of a box:

- "the N": the only N.
- "the N on the left" (right, at the top, at the bottom): one of two N whose centres are at least
  ``e`` apart in that direction.
- "the leftmost N" (rightmost, topmost, bottommost): of three or more N, at least ``e`` beyond all others.
- "the large N", "the small N" (of two), "the largest N", "the smallest N" (of three or more): the box's diagonal is
  at least 1.25 times, or at most 1/1.25 times, that of each other N.
- "the small N on the left" and so on: of two N, where both words fit.
- "the N above the M" (below, to the left of, to the right of): M is the only M; the N's centre is at least ``e``
  above the M's and further above than aside, and the centre of no other N is above the M's at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from openpali.tasks.example import Box, Object

APART = 1 / 8  # least distance of centres, as a share of the image's side
LARGER = 1.25  # least ratio of diagonals

# words for one of two, words for one of many, relation; axis 0 is y, sign -1 means towards smaller coordinates
DIRECTIONS = (
    ("on the left", "leftmost", "to the left of", 1, -1),
    ("on the right", "rightmost", "to the right of", 1, 1),
    ("at the top", "topmost", "above", 0, -1),
    ("at the bottom", "bottommost", "below", 0, 1),
)
SIZES = (("large", "largest", 1), ("small", "smallest", -1))


@dataclass(frozen=True)
class Expression:
    """A template such as "the {} above the {}", the expression made from it, and the index of its object."""

    template: str
    text: str
    index: int


def find_expressions(objects: Sequence[Object], side: float) -> list[Expression]:
    """All expressions that name exactly one of ``objects`` in an image of ``side`` pixels, by the rules above."""
    found: list[Expression] = []
    for index, target in enumerate(objects):
        same = [other for i, other in enumerate(objects) if other.name == target.name and i != index]
        templates = list(_among(target, same, side * APART)) if same else ["the {}"]
        found += [Expression(template, template.format(target.name), index) for template in templates]
        for other in objects:
            if other.name != target.name and sum(o.name == other.name for o in objects) == 1:
                for template in _beside(target, same, other, side * APART):
                    found.append(Expression(template, template.format(target.name, other.name), index))
    return found


def _among(target: Object, same: Sequence[Object], apart: float) -> Iterator[str]:
    """Templates that distinguish ``target`` from ``same``, the other objects of its name."""
    few = len(same) == 1
    sizes, places = [], []
    for one, most, sign in SIZES:
        ratio = [(_diagonal(target.box) / _diagonal(o.box)) ** sign for o in same]
        if min(ratio) >= LARGER:
            sizes.append(one if few else most)
    for one, most, _, axis, sign in DIRECTIONS:
        gaps = [sign * (target.box.centre[axis] - o.box.centre[axis]) for o in same]
        if min(gaps) >= apart:
            places.append(one if few else most)
    yield from (f"the {size} {{}}" for size in sizes)
    if few:
        yield from (f"the {{}} {place}" for place in places)
        yield from (f"the {size} {{}} {place}" for size in sizes for place in places)
    else:
        yield from (f"the {place} {{}}" for place in places)


def _beside(target: Object, same: Sequence[Object], other: Object, apart: float) -> Iterator[str]:
    """Templates for positions relative to ``other`` that apply to ``target`` and no other object of its name."""
    for _, _, relation, axis, sign in DIRECTIONS:
        towards, aside = _offset(target, other, axis, sign)
        others_not = all(_offset(o, other, axis, sign)[0] <= 0 for o in same)
        if towards >= apart and towards > aside and others_not:
            yield f"the {{}} {relation} the {{}}"


def _offset(first: Object, second: Object, axis: int, sign: int) -> tuple[float, float]:
    """Distance from the second centre to the first along the axis (signed) and across it (absolute), pixels."""
    a, b = first.box.centre, second.box.centre
    return sign * (a[axis] - b[axis]), abs(a[1 - axis] - b[1 - axis])


def _diagonal(box: Box) -> float:
    return float((box.height**2 + box.width**2) ** 0.5)
