"""Picture files -> pixels, and pixels -> what the model takes. Hostile files end in one clear sentence."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, ImageOps
from PIL import Image as PILImage
from torch.nn.functional import interpolate

from openpali.tasks.example import Image, Size

MAX_PIXELS = 100_000_000  # beyond this a picture is refused before it is decoded


def load_image(source: str | Path | bytes, name: str = "", *, least: Size | None = None) -> Image:
    """Decode a picture to RGB uint8 ``[H, W, 3]``, turned upright by its EXIF orientation.

    Palette, grey, CMYK and 16-bit pictures are converted; transparency is laid on white; of an animation the
    first frame is taken.

    Args:
        source: a file, or its bytes.
        name: what to call it in an error; the path by default.
        least: a JPEG may be decoded at a half, a quarter or an eighth of its size, if no less than this is left.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no picture, an incomplete one, or one of more than ``MAX_PIXELS`` pixels.
    """
    return decode_image(source, name, least=least)[0]


def decode_image(source: str | Path | bytes, name: str = "", *, least: Size | None = None) -> tuple[Image, Size]:
    """:func:`load_image`, and the upright size of the picture in its file, in whose pixels coordinates are."""
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
        except PILImage.DecompressionBombError as error:
            raise ValueError(f"{name} has more than {MAX_PIXELS:,} pixels: shrink it first") from error
        except Exception as error:  # hostile files make Pillow's parsers raise anything
            raise ValueError(f"{name} is not a picture in a format that Pillow reads") from error
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise ValueError(f"{name} has {width} x {height} pixels, more than {MAX_PIXELS:,}: shrink it first")
        try:
            turned = picture.getexif().get(ExifTags.Base.Orientation, 1) in _ON_ITS_SIDE
            if least is not None and picture.format == "JPEG":
                picture.draft(None, least if turned else least[::-1])  # libjpeg skips the finest frequencies
            return to_rgb(picture), Size(width, height) if turned else Size(height, width)
        except Exception as error:
            raise ValueError(f"{name} is truncated or damaged: {error}") from error


_ON_ITS_SIDE = (5, 6, 7, 8)  # EXIF orientations that swap height and width


def to_rgb(picture: PILImage.Image) -> Image:
    """A Pillow image of any mode as RGB uint8 ``[H, W, 3]``, as :func:`load_image` converts it."""
    picture.load()
    sixteen = picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG")
    ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode.startswith(("I", "F")):  # 16 bits and more: scale by the full range, not clip at 255
        values = np.asarray(picture, dtype=np.float64)
        full = 65535.0 if sixteen or values.max(initial=0) > 255 else 255.0
        picture = PILImage.fromarray(np.clip(values / full * 255, 0, 255).astype(np.uint8))
    if picture.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = PILImage.new("RGBA", picture.size, "white")
        picture = PILImage.alpha_composite(white, picture)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


FILTERS = {
    "bilinear-antialias": ("bilinear", True),  # what we train with
    "bicubic-antialias": ("bicubic", True),  # SigLIP in transformers
    "bilinear": ("bilinear", False),  # big_vision's `resize`: half-pixel centres, the result cut to whole numbers
}


@dataclass(frozen=True)
class Preprocess:
    """How pixels are brought to the size of the model; part of every checkpoint.

    ``height``, ``width`` in pixels; the picture is squashed to them, as in big_vision (``pp/ops_image.py``), with
    one of :data:`FILTERS`.
    """

    height: int
    width: int
    policy: str = "squash"
    filter: str = "bilinear-antialias"

    def __post_init__(self) -> None:
        if self.policy != "squash" or self.filter not in FILTERS:
            raise ValueError(f"unknown preprocessing {self.policy!r} with {self.filter!r}")

    @property
    def least(self) -> Size | None:
        """How small a picture may be decoded; ``None`` where the filter picks pixels of the full size."""
        return Size(self.height, self.width) if FILTERS[self.filter][1] else None

    def __call__(self, image: Image) -> Image:
        """RGB uint8 ``[H, W, 3]`` of any size -> uint8 ``[height, width, 3]``. Identity where sizes agree."""
        if image.shape[:2] == (self.height, self.width):
            return image
        mode, antialias = FILTERS[self.filter]
        pixels = torch.from_numpy(image if image.flags.writeable else image.copy())[None].permute(0, 3, 1, 2)
        if not antialias:
            pixels = pixels.float()
        # torch's kernel for uint8 gives Pillow's values to within 1, six times as fast, and leaves channels last
        small = interpolate(pixels, (self.height, self.width), mode=mode, antialias=antialias)
        return np.ascontiguousarray(small[0].permute(1, 2, 0).to(torch.uint8).numpy())
