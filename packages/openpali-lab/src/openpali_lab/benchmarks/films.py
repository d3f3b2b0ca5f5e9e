"""Videos of the benchmarks: frames at a fixed stride, from the function that training uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from openpali.data.media.videos import MAX_FRAMES
from openpali.tasks.example import Example
from openpali_lab.benchmarks.files import Folder

FRAMES = MAX_FRAMES


@dataclass(frozen=True)
class Film:
    """A video file and which of its frames to take.

    Attributes:
        names: paths under the data root; the first that exists counts.
        stride: take every ``stride``-th frame.
        frames: maximum number of frames.
        start, end: the segment to use, in seconds; by default all.
    """

    names: tuple[str, ...]
    stride: int
    frames: int = FRAMES
    start: float = 0.0
    end: float | None = None


def with_frames(example: Example, folder: Folder, film: Film) -> Callable[[], Example]:
    """A function that returns the example with its frames, which it decodes when called."""
    return partial(_with_frames, example, folder, film)


def _with_frames(example: Example, folder: Folder, film: Film) -> Example:
    images = folder.frames(*film.names, frames=film.frames, stride=film.stride, start=film.start, end=film.end)
    return replace(example, images=images)
