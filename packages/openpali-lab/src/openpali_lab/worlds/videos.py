"""Short videos: one or two things on a fixed background, one of which moves."""

from __future__ import annotations

from collections.abc import Sequence

from openpali.tasks.example import FRAMES, Example
from openpali_lab.worlds.paint import Place, Size, make_patch, overlap, paint
from openpali_lab.worlds.sampler import TRIES, Sampler
from openpali_lab.worlds.scenes import name_objects, somewhere, visible
from openpali_lab.worlds.splits import is_heldout

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
MAX_OVERLAP = 0.15  # of two boxes in any frame, as a share of the smaller


def video(sampler: Sampler, *, frames: int = FRAMES, most: int = 2, kinds: Sequence[str] = KINDS) -> Example:
    """Frames of one or several things, each 25 to 40 % of the canvas, with a question about what moves.

    One of them moves at constant speed by 30 to 55 % of the canvas to the left, right, up or down; in a tenth of
    the videos nothing moves. Boxes are from the first frame. Pairs (name, direction) and pairs of names are held
    out.

    Args:
        frames: number of images.
        most: largest number of things.
        kinds: of question: "what" is "what moves?" (a name, or "nothing"), "where" is "where does the N move?"
            (left, right, up, down or nowhere).
    """
    if not kinds or set(kinds) - set(KINDS):
        raise ValueError(f"kinds of questions about videos are {' and '.join(KINDS)}, not {list(kinds)}")
    still, count = sampler.uniform(0, 1) < STILL_SHARE, sampler.integer(1, most)
    for _ in range(TRIES):
        cast = sampler.stamps(count)
        mover = cast[0]
        direction = STILL if still else list(DIRECTIONS)[sampler.integer(0, 3)]
        if not still and is_heldout("motion", mover.name, direction) != sampler.heldout:
            continue
        patches = [make_patch(stamp, sampler.canvas * sampler.uniform(0.25, 0.4), sampler.rng) for stamp in cast]
        path = _path(sampler, patches[0].size, direction, frames)
        others = [somewhere(sampler, patch) for patch in patches[1:]]
        pairs = [
            (place, patch.size, other) for place in path for patch, other in zip(patches[1:], others, strict=True)
        ]
        if all(overlap(patches[0].size, place, size, other) <= MAX_OVERLAP for place, size, other in pairs):
            break
    else:
        raise ValueError(
            f"the world {sampler.world.name} is too small for a {sampler.split} video of {count} things: lower most"
        )
    ground = sampler.background(*patches)
    kind = kinds[int(sampler.uniform(0, 1) * len(kinds))]
    if kind == "what":
        question, answer = "what moves?", "nothing" if still else mover.name
    else:
        asked = cast[sampler.integer(0, len(cast) - 1)]
        question, answer = f"where does the {asked.name} move?", direction if asked is mover else STILL
    motion = "stays still" if still else DIRECTIONS[direction][0]
    return Example(
        key=sampler.key,
        images=[paint(ground, patches, [place, *others]) for place in path],
        captions={"en": [f"{mover.noun} {motion}"]},
        question=question,
        answers=[answer],
        question_kind=kind,
        objects=name_objects(patches, visible(sampler.canvas, patches, [path[0], *others])),
        vocabulary=sampler.world.names,
    )


def _path(sampler: Sampler, size: Size, direction: str, frames: int) -> list[Place]:
    """Place of a patch of ``size`` (height, width) in each frame, always inside the canvas."""
    _, down, right = DIRECTIONS.get(direction, ("", 0, 0))
    way = sampler.uniform(0.3, 0.55) * sampler.canvas
    starts = []
    for step, length in ((down, size[0]), (right, size[1])):
        room = sampler.canvas - length - way * abs(step)
        starts.append(sampler.uniform(0, room) + (way if step < 0 else 0))
    times = [frame / max(1, frames - 1) for frame in range(frames)]
    return [(round(starts[0] + down * way * t), round(starts[1] + right * way * t)) for t in times]
