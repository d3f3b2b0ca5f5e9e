"""Video files -> frames at a fixed stride (PaLI-3: up to 16 frames, each encoded alone)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from openpali.messages import cannot_import
from openpali.tasks.example import FRAMES, Image

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi")
MAX_FRAMES = 16


def is_video(path: str | Path) -> bool:
    """Whether a file is a video, by its suffix."""
    return Path(path).suffix.lower() in SUFFIXES


def load_frames(
    source: str | Path | bytes,
    frames: int = FRAMES,
    stride: int | None = None,
    *,
    start: float = 0.0,
    end: float | None = None,
    name: str = "",
) -> list[Image]:
    """Every ``stride``-th frame from the first on, at most ``frames``, each RGB uint8 ``[H, W, 3]``, upright.

    Without a stride the frames are spread evenly over the video. Only the returned frames are kept in memory, and
    with a stride decoding stops at the last of them.

    Args:
        source: a file, or its bytes.
        frames: 1 to ``MAX_FRAMES``.
        name: its name in error messages; by default the path.
        start, end: the part of the video to use, in seconds; by default all of it.
    """
    if not 1 <= frames <= MAX_FRAMES:
        raise ValueError(f"frames must be 1 to {MAX_FRAMES}, not {frames}")
    if stride is not None and stride < 1:
        raise ValueError(f"stride must be at least 1, not {stride}")
    name = name or ("the video" if isinstance(source, bytes) else str(source))
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise FileNotFoundError(f"no video file {source}")
    try:
        import av
    except ImportError as error:
        raise ValueError(cannot_import("videos need PyAV", "openpali[video]", error)) from error
    try:
        if stride is None:
            total = sum(1 for _ in _decode(source, start, end))
            wanted = np.linspace(0, total - 1, min(frames, total)).round().astype(int).tolist()
        else:
            wanted = [i * stride for i in range(frames)]
        chosen: list[Image] = []
        if wanted:
            for i, frame in enumerate(islice(_decode(source, start, end), wanted[-1] + 1)):
                if i == wanted[len(chosen)]:
                    chosen.append(_upright(frame))
    except (av.error.FFmpegError, IndexError) as error:
        reason = getattr(error, "strerror", None) or "it has no frames"  # without FFmpeg's error number
        raise ValueError(f"{name} is not a video, or is damaged: {reason}") from error
    if not chosen:
        whole = start == 0 and end is None
        part = "" if whole else f" from {start:g} seconds to {'its end' if end is None else f'{end:g}'}"
        raise ValueError(f"{name} has no frames{part}")
    return chosen


def _upright(frame: Any) -> Image:
    """The pixels of PyAV's frame, turned and mirrored by its display matrix, as players show it.

    Of the matrix, nine int32 in rows (a b u, c d v, x y w), point (x, y) goes to (a x + c y, b x + d y) (FFmpeg's
    `libavutil/display.h`). Only multiples of 90 degrees are turned, and the rest to the next of them.
    """
    pixels: Image = frame.to_ndarray(format="rgb24")
    if matrix := frame.side_data.get("DISPLAYMATRIX"):
        (a, b), (c, d) = np.frombuffer(bytes(matrix), np.int32).reshape(3, 3)[:2, :2]
        if abs(b) > abs(a):
            pixels, a, d = pixels.swapaxes(0, 1), c, b
        pixels = pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return np.ascontiguousarray(pixels)


def _decode(source: str | Path | bytes, start: float, end: float | None) -> Iterator[Any]:
    """PyAV's frames with ``start`` <= time < ``end``, in seconds."""
    import av

    with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source), mode="r") as container:
        stream = container.streams.video[0]
        if start > 0:
            container.seek(int(start * av.time_base))  # to the last key frame before it
        for frame in container.decode(stream):
            if frame.time is not None and frame.time < start:
                continue
            if end is not None and frame.time is not None and frame.time >= end:
                return
            yield frame
