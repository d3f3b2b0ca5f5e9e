"""Images of one thing, and scenes of several things with exact boxes and masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openpali.tasks.example import Example, Mask, Object, tight_box
from openpali_lab.worlds.expressions import Expression, find_expressions
from openpali_lab.worlds.paint import Patch, Place, make_patch, overlap, owners, paint
from openpali_lab.worlds.phrases import describe
from openpali_lab.worlds.sampler import TRIES, Sampler
from openpali_lab.worlds.splits import is_heldout
from openpali_lab.worlds.world import Stamp

MIN_VISIBLE = 0.6  # share of a thing's pixels that no other thing covers
MAX_OVERLAP = 0.12  # of two boxes, as a share of the smaller; may be exceeded where there is no room


def single(sampler: Sampler) -> Example:
    """The featured stamp, 45 to 90 % of the canvas, with its caption in every language of the world."""
    stamp = sampler.featured
    patch = make_patch(stamp, sampler.canvas * sampler.uniform(0.45, 0.9), sampler.rng)
    patches, places = [patch], [somewhere(sampler, patch)]
    masks = visible(sampler.canvas, patches, places)
    return Example(
        key=sampler.key,
        images=[paint(sampler.background(*patches), patches, places)],
        captions={code: [stamp.captions[code]] for code in sampler.world.languages if code in stamp.captions},
        objects=name_objects(patches, masks),
        label=stamp.category,
        vocabulary=sampler.world.names,
    )


def scene(
    sampler: Sampler,
    *,
    min_objects: int = 1,
    max_objects: int = 4,
    expressions: bool = False,
    smallest: float = 0.22,
    largest: float = 0.45,
    height: float = 1.0,
) -> Example:
    """Several stamps with little overlap.

    Pairs of names and pairs (expression, name) are held out.

    Args:
        min_objects: least number of stamps.
        max_objects: largest number of stamps.
        expressions: whether the sample has a referring expression, which fits exactly one of the things.
        smallest, largest: longer side of a stamp as a share of the canvas.
        height: of the image as a share of its width, at least ``largest``; it has no expressions below 1.
    """
    if not largest <= height <= 1 or (expressions and height < 1):
        raise ValueError(
            f"height = {height} must be at least largest = {largest} and at most 1, and 1 with expressions"
        )
    rows = round(height * sampler.canvas)
    for _ in range(TRIES):
        cast = _cast(sampler, sampler.integer(min_objects, max_objects))
        patches = [
            make_patch(stamp, sampler.canvas * sampler.uniform(smallest, largest), sampler.rng) for stamp in cast
        ]
        places = arrange(sampler, patches, rows)
        masks = [mask[:rows] for mask in visible(sampler.canvas, patches, places)]
        if any(m.sum() < MIN_VISIBLE * p.shape.sum() for m, p in zip(masks, patches, strict=True)):
            continue
        objects = name_objects(patches, masks)
        chosen = _refer(sampler, objects) if expressions else None
        if expressions and chosen is None:
            continue
        return Example(
            key=sampler.key,
            images=[paint(sampler.background(*patches), patches, places)[:rows]],
            captions={"en": [describe(cast, objects)]},
            objects=objects,
            expression=chosen.text if chosen else "",
            referred=[chosen.index] if chosen else (),
            vocabulary=sampler.world.names,
        )
    raise ValueError(
        f"the world {sampler.world.name} is too small for a {sampler.split} scene of {min_objects} to "
        f"{max_objects} objects: ask for fewer objects or a larger canvas"
    )


def _cast(sampler: Sampler, count: int) -> list[Stamp]:
    """The stamps that appear, back to front: in half of the scenes two or more are the same one, and each number is
    equally likely."""
    same = sampler.integer(2, count) if count > 1 and sampler.uniform(0, 1) < 0.5 else 1
    first, *others = sampler.stamps(count - same + 1)
    cast = [first] * same + others
    return [cast[i] for i in sampler.rng.permutation(count)]


def _refer(sampler: Sampler, objects: Sequence[Object]) -> Expression | None:
    """A referring expression of the sample's split; each template is equally likely. ``None`` if there is none."""
    found: dict[str, list[Expression]] = {}
    for expression in find_expressions(objects, sampler.canvas):
        if is_heldout("expression", expression.template, objects[expression.index].name) == sampler.heldout:
            found.setdefault(expression.template, []).append(expression)
    if not found:
        return None
    same = found[list(found)[sampler.integer(0, len(found) - 1)]]
    return same[sampler.integer(0, len(same) - 1)]


def somewhere(sampler: Sampler, patch: Patch, rows: int | None = None) -> Place:
    """A random place at which all of ``patch`` is on the canvas, or on its first ``rows`` rows of pixels."""
    height, width = patch.size
    return sampler.integer(0, (rows or sampler.canvas) - height), sampler.integer(0, sampler.canvas - width)


def arrange(sampler: Sampler, patches: Sequence[Patch], rows: int | None = None) -> list[Place]:
    """Places for all patches with little overlap: of twelve random places, the first that is good, or the best.

    ``rows``: as in :func:`somewhere`.
    """
    places: list[Place] = []
    for patch in patches:
        best, least = (0, 0), np.inf
        for _ in range(12):
            place = somewhere(sampler, patch, rows)
            most = max(
                (overlap(patch.size, place, p.size, q) for p, q in zip(patches, places, strict=False)), default=0.0
            )
            if most < least:
                best, least = place, most
            if most <= MAX_OVERLAP:
                break
        places.append(best)
    return places


def visible(canvas: int, patches: Sequence[Patch], places: Sequence[Place]) -> list[Mask]:
    """The visible pixels of each patch, bool [canvas, canvas] each; later patches lie in front."""
    owner = owners(canvas, patches, places)
    return [owner == number for number in range(1, len(patches) + 1)]


def name_objects(patches: Sequence[Patch], masks: Sequence[Mask]) -> list[Object]:
    """One named object per patch, with the box of its mask."""
    return [Object(p.stamp.name, tight_box(m), m) for p, m in zip(patches, masks, strict=True)]
