"""Encoded media files -> images: one image, or the frames of a video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from openpali.data.media.images import decode_image, is_image
from openpali.data.media.videos import MAX_FRAMES, is_video, load_frames
from openpali.tasks.example import FRAMES, Image, Size


def is_media(path: str | Path) -> bool:
    """Whether a file is an image or a video, by its suffix."""
    return is_image(path) or is_video(path)


@dataclass(frozen=True)
class MediaLoader:
    """Decodes the media files of records. Its fields are options of every source that reads records.

    Attributes:
        min_size: smallest size at which JPEGs may be decoded (see :func:`load_image`); ``None`` is full size.
        frames: at most this many frames of a video file.
        stride: take every ``stride``-th frame from the first on; by default the frames are spread evenly.
    """

    min_size: Size | None = None
    frames: int = FRAMES
    stride: int | None = None

    def __post_init__(self) -> None:
        if type(self.frames) is not int or not 1 <= self.frames <= MAX_FRAMES:
            raise ValueError(f"frames must be an integer from 1 to {MAX_FRAMES}, not {self.frames!r}")
        if self.stride is not None and (type(self.stride) is not int or self.stride < 1):
            raise ValueError(f"stride must be an integer of at least 1, not {self.stride!r}")

    def load(self, data: bytes, path: str, where: str) -> tuple[list[Image], Size]:
        """Decode a file.

        Args:
            data: its content.
            path: its name; the suffix distinguishes videos from images.
            where: the record that names it, for errors.

        Returns:
            the image, or the frames of the video; and the size in the file.
        """
        name = f"{where}: {path}"
        if is_video(f"any.{path}"):  # a member of a shard may be called "mp4" alone
            frames = load_frames(data, self.frames, self.stride, name=name)
            return frames, Size(*frames[0].shape[:2])
        image, size = decode_image(data, name, min_size=self.min_size)
        return [image], size


DEFAULT_MEDIA = MediaLoader()
"""Full-size images, and :data:`FRAMES` frames of a video, spread evenly."""
