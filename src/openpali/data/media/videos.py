"""Video files -> frames, at a fixed stride (PaLI-3: up to 16 frames, each encoded alone)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from openpali.tasks.example import FRAMES, Image

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi")
MAX_FRAMES = 16


def is_video(path: str | Path) -> bool:
    """Whether a file is a video, by its name."""
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
    """Every ``stride``-th frame from the first on, RGB uint8 ``[H, W, 3]``, ``frames`` of them at most.

    Without a stride the frames are spread evenly over the whole. Only the frames that are kept are held in memory,
    and with a stride nothing after the last of them is decoded.

    Args:
        source: a file, or its bytes.
        name: what to call it in an error; the path by default.
        start, end: the stretch of the video that is meant, in seconds; to its end by default.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no video, is damaged, or PyAV (``pip install openpali[video]``) is missing; more than
            ``MAX_FRAMES`` frames; a stride below 1; no frames in that stretch.
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
        raise ValueError("videos need PyAV: pip install 'openpali[video]'") from error
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
                    chosen.append(np.ascontiguousarray(frame.to_ndarray(format="rgb24")))
    except (av.error.FFmpegError, IndexError) as error:
        reason = getattr(error, "strerror", None) or "it has no pictures"  # without FFmpeg's number
        raise ValueError(f"{name} is no video, or damaged: {reason}") from error
    if not chosen:
        stretch = (
            ""
            if not start and end is None
            else f" from {start:g} seconds to {'its end' if end is None else f'{end:g}'}"
        )
        raise ValueError(f"{name} has no frames{stretch}")
    return chosen


def _decode(source: str | Path | bytes, start: float, end: float | None) -> Iterator[Any]:
    """The frames of PyAV whose time is at least ``start`` and before ``end``."""
    import av

    with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source), mode="r") as container:
        stream = container.streams.video[0]
        if start > 0:
            container.seek(int(start * av.time_base))  # to the key frame before it
        for frame in container.decode(stream):
            if frame.time is not None and frame.time < start:
                continue
            if end is not None and frame.time is not None and frame.time >= end:
                return
            yield frame
