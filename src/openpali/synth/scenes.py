"""Pictures of things: one thing alone, and scenes of several whose places are known exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openpali.synth.draw import TRIES, Draw
from openpali.synth.expressions import Expression, find_expressions
from openpali.synth.paint import Patch, Place, covered, make_patch, mask_box, owners, paint
from openpali.synth.phrases import describe
from openpali.synth.splits import is_heldout
from openpali.synth.world import Stamp
from openpali.tasks.example import Example, Mask, Object

LEAST_VISIBLE = 0.6  # of a thing that others partly cover
MOST_COVERED = 0.12  # of the smaller of two boxes, where there is room


def single(draw: Draw) -> Example:
    """The stamp whose turn it is, 45 to 90 % of the canvas, with its caption in every language of the world."""
    stamp = draw.turn
    patch = make_patch(stamp, draw.canvas * draw.uniform(0.45, 0.9), draw.rng)
    patches, places = [patch], [somewhere(draw, patch)]
    masks = visible(draw.canvas, patches, places)
    return Example(
        key=draw.key,
        images=[paint(draw.background(*patches), patches, places)],
        captions={code: [stamp.captions[code]] for code in draw.world.languages if code in stamp.captions},
        objects=name_objects(patches, masks),
        label=stamp.category,
        vocabulary=draw.world.names,
    )


def scene(
    draw: Draw, *, min_objects: int = 1, max_objects: int = 4, copies: float = 0.5, expressions: bool = False
) -> Example:
    """Several stamps, 22 to 45 % of the canvas each, hardly covering each other.

    With probability ``copies`` two or more of them (any number as likely as another) are the same stamp. With
    ``expressions`` one of the things is referred to, by an expression that fits no other. Held out are pairs of
    names and (expression, name). Raises ``ValueError`` where the world is too small to meet the conditions.
    """
    for _ in range(TRIES):
        cast = _cast(draw, draw.integer(min_objects, max_objects), copies)
        patches = [make_patch(stamp, draw.canvas * draw.uniform(0.22, 0.45), draw.rng) for stamp in cast]
        places = arrange(draw, patches)
        masks = visible(draw.canvas, patches, places)
        if any(m.sum() < LEAST_VISIBLE * p.shape.sum() for m, p in zip(masks, patches, strict=True)):
            continue
        objects = name_objects(patches, masks)
        chosen = _refer(draw, objects) if expressions else None
        if expressions and chosen is None:
            continue
        return Example(
            key=draw.key,
            images=[paint(draw.background(*patches), patches, places)],
            captions={"en": [describe(cast, objects)]},
            objects=objects,
            expression=chosen.text if chosen else "",
            referred=[chosen.index] if chosen else (),
            vocabulary=draw.world.names,
        )
    raise ValueError(f"the world {draw.world.name} is too small for a {draw.split} scene that meets the conditions")


def _cast(draw: Draw, count: int, copies: float) -> list[Stamp]:
    """Who appears, back to front: with probability ``copies`` two or more are the same stamp."""
    same = draw.integer(2, count) if count > 1 and draw.uniform(0, 1) < copies else 1
    first, *others = draw.stamps(count - same + 1)
    cast = [first] * same + others
    return [cast[i] for i in draw.rng.permutation(count)]


def _refer(draw: Draw, objects: Sequence[Object]) -> Expression | None:
    """A referring expression of the draw's split, each template as likely as another."""
    found: dict[str, list[Expression]] = {}
    for expression in find_expressions(objects, draw.canvas):
        if is_heldout("expression", expression.template, objects[expression.index].name) == draw.heldout:
            found.setdefault(expression.template, []).append(expression)
    if not found:
        return None
    same = found[list(found)[draw.integer(0, len(found) - 1)]]
    return same[draw.integer(0, len(same) - 1)]


def somewhere(draw: Draw, patch: Patch) -> Place:
    """A random place where all of ``patch`` lies on the canvas."""
    height, width = patch.size
    return draw.integer(0, draw.canvas - height), draw.integer(0, draw.canvas - width)


def arrange(draw: Draw, patches: Sequence[Patch]) -> list[Place]:
    """Places for all patches where they cover each other little: the first of a few random ones that is good, or
    the best of them."""
    places: list[Place] = []
    for patch in patches:
        best, least = (0, 0), np.inf
        for _ in range(12):
            place = somewhere(draw, patch)
            most = max(
                (covered(patch.size, place, p.size, q) for p, q in zip(patches, places, strict=False)), default=0.0
            )
            if most < least:
                best, least = place, most
            if most <= MOST_COVERED:
                break
        places.append(best)
    return places


def visible(canvas: int, patches: Sequence[Patch], places: Sequence[Place]) -> list[Mask]:
    """The visible pixels of each patch, bool [canvas, canvas] each; later patches lie in front."""
    owner = owners(canvas, patches, places)
    return [owner == number for number in range(1, len(patches) + 1)]


def name_objects(patches: Sequence[Patch], masks: Sequence[Mask]) -> list[Object]:
    """One named object per patch, with the box of its mask."""
    return [Object(p.stamp.name, mask_box(m), m) for p, m in zip(patches, masks, strict=True)]
