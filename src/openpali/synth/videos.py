"""Short videos: one or two things on a background that stands still, one of them moving."""

from __future__ import annotations

from collections.abc import Sequence

from openpali.synth.draw import TRIES, Draw
from openpali.synth.paint import Place, Size, covered, make_patch, paint
from openpali.synth.scenes import name_objects, somewhere, visible
from openpali.synth.splits import is_heldout
from openpali.tasks.example import FRAMES, Example

# direction -> (words for the caption, sign downwards, sign to the right)
DIRECTIONS = {
    "left": ("moves to the left", 0, -1),
    "right": ("moves to the right", 0, 1),
    "up": ("moves up", -1, 0),
    "down": ("moves down", 1, 0),
}
STILL = "nowhere"
KINDS = ("what", "where")
STILL_SHARE = 0.1
MOST_COVERED = 0.15  # of the smaller of two things, in any frame


def video(draw: Draw, *, frames: int = FRAMES, most: int = 2, kinds: Sequence[str] = KINDS) -> Example:
    """``frames`` pictures of one or two things (``most``), 25 to 40 % of the canvas, one of which moves evenly by
    30 to 55 % of the canvas to the left, right, up or down; in a tenth of the videos nothing moves.

    The question is of one of ``kinds``: "what moves?" (kind "what": a name, or "nothing") or "where does the N
    move?" (kind "where": left, right, up, down or nowhere). Boxes are those of the first frame. Held out are (name,
    direction) and pairs of names. Raises ``ValueError`` where the world is too small, or kinds are unknown or none.
    """
    if not kinds or set(kinds) - set(KINDS):
        raise ValueError(f"kinds of questions about videos are {' and '.join(KINDS)}, not {list(kinds)}")
    still, count = draw.uniform(0, 1) < STILL_SHARE, draw.integer(1, most)
    for _ in range(TRIES):
        cast = draw.stamps(count)
        mover = cast[0]
        direction = STILL if still else list(DIRECTIONS)[draw.integer(0, 3)]
        if not still and is_heldout("motion", mover.name, direction) != draw.heldout:
            continue
        patches = [make_patch(stamp, draw.canvas * draw.uniform(0.25, 0.4), draw.rng) for stamp in cast]
        path = _path(draw, patches[0].size, direction, frames)
        others = [somewhere(draw, patch) for patch in patches[1:]]
        pairs = [
            (place, patch.size, other) for place in path for patch, other in zip(patches[1:], others, strict=True)
        ]
        if all(covered(patches[0].size, place, size, other) <= MOST_COVERED for place, size, other in pairs):
            break
    else:
        raise ValueError(f"the world {draw.world.name} is too small for a {draw.split} video")
    ground = draw.background(*patches)
    kind = kinds[int(draw.uniform(0, 1) * len(kinds))]
    if kind == "what":
        question, answer = "what moves?", "nothing" if still else mover.name
    else:
        asked = cast[draw.integer(0, len(cast) - 1)]
        question, answer = f"where does the {asked.name} move?", direction if asked is mover else STILL
    motion = "stays still" if still else DIRECTIONS[direction][0]
    return Example(
        key=draw.key,
        images=[paint(ground, patches, [place, *others]) for place in path],
        captions={"en": [f"{mover.noun} {motion}"]},
        question=question,
        answers=[answer],
        question_kind=kind,
        objects=name_objects(patches, visible(draw.canvas, patches, [path[0], *others])),
        vocabulary=draw.world.names,
    )


def _path(draw: Draw, size: Size, direction: str, frames: int) -> list[Place]:
    """Where a patch of ``size`` (height, width) is in each frame, always inside the canvas."""
    _, down, right = DIRECTIONS.get(direction, ("", 0, 0))
    way = draw.uniform(0.3, 0.55) * draw.canvas
    starts = []
    for step, length in ((down, size[0]), (right, size[1])):
        room = draw.canvas - length - way * abs(step)
        starts.append(draw.uniform(0, room) + (way if step < 0 else 0))
    times = [frame / max(1, frames - 1) for frame in range(frames)]
    return [(round(starts[0] + down * way * t), round(starts[1] + right * way * t)) for t in times]
