"""Picture files -> pixels, and pixels -> what the model takes. Hostile files end in one clear sentence."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from PIL import ImageOps, UnidentifiedImageError

from openpali.tasks.example import Image

MAX_PIXELS = 100_000_000  # beyond this a picture is refused before it is decoded


def load_image(source: str | Path | bytes, name: str = "") -> Image:
    """Decode a picture to RGB uint8 ``[H, W, 3]``, turned upright by its EXIF orientation.

    Palette, grey, CMYK and 16-bit pictures are converted; transparency is laid on white; of an animation the
    first frame is taken.

    Args:
        source: a file, or its bytes.
        name: what to call it in an error; the path by default.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no picture, an incomplete one, or one of more than ``MAX_PIXELS`` pixels.
    """
    if isinstance(source, bytes):
        data, name = source, name or "the picture"
    else:
        path = Path(source)
        name = name or str(path)
        if not path.is_file():
            raise FileNotFoundError(f"no picture file {path}")
        data = path.read_bytes()
    if not data:
        raise ValueError(f"{name} is empty (0 bytes)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large pictures, broken EXIF: all that matters is raised
        try:
            picture = PILImage.open(io.BytesIO(data))
        except (UnidentifiedImageError, PILImage.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
            if isinstance(error, PILImage.DecompressionBombError):
                raise ValueError(f"{name} has more than {MAX_PIXELS:,} pixels: shrink it first") from error
            raise ValueError(f"{name} is not a picture in a format that Pillow reads") from error
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise ValueError(f"{name} has {width} x {height} pixels, more than {MAX_PIXELS:,}: shrink it first")
        try:
            return _to_rgb(picture)
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise ValueError(f"{name} is truncated or damaged: {error}") from error


def _to_rgb(picture: PILImage.Image) -> Image:
    picture.load()
    sixteen = picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG")
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):  # 16 bits and more: scale by the full range, not clip at 255
        values = np.asarray(picture, dtype=np.float64)
        full = 65535.0 if sixteen or values.max(initial=0) > 255 else 255.0
        picture = PILImage.fromarray(np.clip(values / full * 255, 0, 255).astype(np.uint8))
    if picture.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = PILImage.new("RGBA", picture.size, "white")
        picture = PILImage.alpha_composite(white, picture)
    return np.array(picture.convert("RGB"))


@dataclass(frozen=True)
class Preprocess:
    """How pixels are brought to the size of the model; part of every checkpoint.

    ``height``, ``width`` in pixels; the picture is squashed to them, as in big_vision, with ``filter``.
    """

    height: int
    width: int
    policy: str = "squash"
    filter: str = "bilinear-antialias"

    def __post_init__(self) -> None:
        if self.policy != "squash" or self.filter != "bilinear-antialias":
            raise ValueError(f"unknown preprocessing {self.policy!r} with {self.filter!r}")

    def __call__(self, image: Image) -> Image:
        """RGB uint8 ``[H, W, 3]`` of any size -> uint8 ``[height, width, 3]``. Identity where sizes agree."""
        if image.shape[:2] == (self.height, self.width):
            return image
        picture = PILImage.fromarray(image).resize((self.width, self.height), PILImage.Resampling.BILINEAR)
        return np.asarray(picture)
