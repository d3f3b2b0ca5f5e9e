"""Video files -> frames, at a fixed stride (PaLI-3: up to 16 frames, each encoded alone)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from openpali.tasks.example import Image

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi")
MAX_FRAMES = 16


def is_video(path: str | Path) -> bool:
    """Whether a file is a video, by its name."""
    return Path(path).suffix.lower() in SUFFIXES


def load_frames(path: str | Path, frames: int = 8, stride: int | None = None) -> list[Image]:
    """Every ``stride``-th frame from the first on, RGB uint8 ``[H, W, 3]``, ``frames`` of them at most.

    Without a stride the frames are spread evenly over the whole video.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no video, is damaged, or PyAV (``pip install openpali[video]``) is missing; more than
            ``MAX_FRAMES`` frames.
    """
    if not 1 <= frames <= MAX_FRAMES:
        raise ValueError(f"frames must be 1 to {MAX_FRAMES}, not {frames}")
    if not Path(path).is_file():
        raise FileNotFoundError(f"no video file {path}")
    try:
        import av
    except ImportError as error:
        raise ValueError("videos need PyAV: pip install 'openpali[video]'") from error
    try:
        with av.open(str(path)) as container:
            decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    except (av.error.FFmpegError, IndexError) as error:
        raise ValueError(f"{path} is no video, or damaged: {error}") from error
    if not decoded:
        raise ValueError(f"{path} has no frames")
    if stride is None:
        chosen = np.linspace(0, len(decoded) - 1, min(frames, len(decoded))).round().astype(int).tolist()
    else:
        chosen = list(range(0, len(decoded), max(1, stride)))[:frames]
    return [np.ascontiguousarray(decoded[i]) for i in chosen]
