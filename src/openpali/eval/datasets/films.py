"""Videos of the benchmarks: frames at a fixed stride, by the sampler that training uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from openpali.data.media.videos import MAX_FRAMES
from openpali.eval.datasets.files import Folder
from openpali.tasks.example import Example

FRAMES = MAX_FRAMES


@dataclass(frozen=True)
class Film:
    """Where a video lies, and which of its frames are taken.

    Attributes:
        names: paths under the data root; the first that is there counts.
        stride: every so many frames, one is taken.
        frames: at most so many are.
        start, end: the stretch that is meant, in seconds; the whole by default.
    """

    names: tuple[str, ...]
    stride: int
    frames: int = FRAMES
    start: float = 0.0
    end: float | None = None


def with_frames(example: Example, folder: Folder, film: Film) -> Callable[[], Example]:
    """The example, with its frames decoded when it is asked for."""
    return partial(_with_frames, example, folder, film)


def _with_frames(example: Example, folder: Folder, film: Film) -> Example:
    images = folder.frames(*film.names, frames=film.frames, stride=film.stride, start=film.start, end=film.end)
    return replace(example, images=images)
