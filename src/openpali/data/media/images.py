"""Image files -> pixels, and pixels -> the size of the model. Hostile files give one clear error message."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast, get_args

import numpy as np
import torch
from PIL import ExifTags, ImageOps
from PIL import Image as PILImage
from torch.nn.functional import interpolate

try:
    import simplejpeg
except ImportError:  # Pillow decodes everything
    simplejpeg = None

from openpali.tasks.example import Image, Size

MAX_PIXELS = 100_000_000  # a larger image is refused before it is decoded


class TooManyPixels(ValueError):
    """An image has more pixels than may be decoded."""


def load_image(
    source: str | Path | bytes, name: str = "", *, min_size: Size | None = None, max_pixels: int = MAX_PIXELS
) -> Image:
    """Decode an image to RGB uint8 ``[H, W, 3]``, upright by its EXIF orientation.

    Palette, grey, CMYK and 16-bit images are converted; transparent pixels are blended with white; an
    animation gives its first frame.

    Args:
        source: a file, or its bytes.
        name: its name in error messages; by default the path.
        min_size: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, if the result is at least this large.
        max_pixels: a larger image is refused before it is decoded.

    Raises:
        FileNotFoundError: there is no such file.
        TooManyPixels: it has more than ``max_pixels`` pixels.
        ValueError: it is a folder, a URL, not an image, or is incomplete.
    """
    return decode_image(source, name, min_size=min_size, max_pixels=max_pixels)[0]


def check_image_file(path: str | Path) -> None:
    """Check that there is a file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the path is a folder or a URL.
    """
    if "://" in str(path):
        raise ValueError(f"{path} is a URL: download the image first, and give its file")
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder: give its images, as in {Path(path) / '*.png'}")
    if not Path(path).is_file():
        raise FileNotFoundError(f"no image file {path}")


def decode_image(
    source: str | Path | bytes, name: str = "", *, min_size: Size | None = None, max_pixels: int = MAX_PIXELS
) -> tuple[Image, Size]:
    """Like :func:`load_image`; also returns the upright size of the image on disk, which coordinates refer to."""
    if isinstance(source, bytes):
        data, name = source, name or "the image"
    else:
        path = Path(source)
        name = name or str(path)
        check_image_file(source)
        data = path.read_bytes()
    if not data:
        raise ValueError(_empty(name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about large images and broken EXIF; real problems are raised
        image = _open(io.BytesIO(data), name, max_pixels)
        try:
            size = _upright_size(image)
            if min_size is not None and image.format == "JPEG":
                turned = size != (image.height, image.width)
                image.draft(None, min_size if turned else min_size[::-1])  # libjpeg skips the finest frequencies
            fast = _decode_jpeg(data, image)
            return (to_rgb(image) if fast is None else fast), size
        except Exception as error:
            raise ValueError(f"{name} is truncated or damaged: {error}") from error


def _decode_jpeg(data: bytes, image: PILImage.Image) -> Image | None:
    """The pixels of ``image``, sooner than by Pillow; None if it is no upright JPEG in colour, or is damaged."""
    if simplejpeg is None or image.format != "JPEG" or image.mode != "RGB" or _orientation(image) != 1:
        return None
    try:
        pixels: Image = simplejpeg.decode_jpeg(data, min_height=image.height, min_width=image.width)
    except ValueError:
        return None
    return pixels if pixels.shape == (image.height, image.width, 3) else None


def read_size(path: Path) -> Size:
    """Upright size of an image file, from its header; the pixels are not decoded.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an image, or has more than ``MAX_PIXELS`` pixels.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no image file {path}")
    with warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")
        if not file.read(1):
            raise ValueError(_empty(str(path)))
        file.seek(0)
        image = _open(file, str(path))
        try:
            return _upright_size(image)
        except Exception as error:
            raise ValueError(f"{path} is truncated or damaged: {error}") from error


def _empty(name: str) -> str:
    return f"{name} is empty (0 bytes)"


def _open(file: BinaryIO, name: str, max_pixels: int = MAX_PIXELS) -> PILImage.Image:
    try:
        image = PILImage.open(file)
    except PILImage.DecompressionBombError as error:
        raise TooManyPixels(f"{name} has more than {max_pixels:,} pixels: shrink it first") from error
    except Exception as error:  # hostile files make Pillow's parsers raise any error
        raise ValueError(f"{name} is not an image in a format that Pillow reads") from error
    width, height = image.size
    if width * height > max_pixels:
        raise TooManyPixels(f"{name} has {width} x {height} pixels, more than {max_pixels:,}: shrink it first")
    return image


def _orientation(image: PILImage.Image) -> int:
    return cast(int, image.getexif().get(ExifTags.Base.Orientation, 1))


def _upright_size(image: PILImage.Image) -> Size:
    turned = _orientation(image) in _ON_ITS_SIDE
    return Size(image.width, image.height) if turned else Size(image.height, image.width)


_ON_ITS_SIDE = (5, 6, 7, 8)  # EXIF orientations that swap height and width


def to_rgb(image: PILImage.Image) -> Image:
    """A Pillow image of any mode as RGB uint8 ``[H, W, 3]``, converted as :func:`load_image` says.

    The image stays as it is.
    """
    image.load()
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    if _orientation(image) != 1:  # else it would be copied
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):  # 16 bits and more: scale by the full range instead of clipping at 255
        values = np.asarray(image, dtype=np.float64)
        full = 65535.0 if sixteen or values.max(initial=0) > 255 else 255.0
        image = PILImage.fromarray(np.clip(values / full * 255, 0, 255).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = PILImage.new("RGBA", image.size, "white")
        image = PILImage.alpha_composite(white, image)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


FILTERS = {
    "bilinear-antialias": ("bilinear", True),  # our training default
    "bicubic-antialias": ("bicubic", True),  # SigLIP in transformers
    "bilinear": ("bilinear", False),  # big_vision's `resize`: half-pixel centres, result truncated to integers
}


Policy = Literal["squash", "pad"]
PADDING = 128  # grey: about 0 for the model, whose values are -1 to 1


@dataclass(frozen=True)
class Preprocess:
    """Resizes images to the size of the model; part of every checkpoint.

    The policy "squash" squashes the image to ``height`` x ``width`` pixels, as in big_vision
    (``pp/ops_image.py``). "pad" keeps its proportions: the image is scaled until it fits, stands at the top left,
    and the rest is grey. Coordinates are relative to the whole, so tasks that write them need "squash". ``filter``
    is one of :data:`FILTERS`.
    """

    height: int
    width: int
    policy: Policy = "squash"
    filter: str = "bilinear-antialias"

    def __post_init__(self) -> None:
        if self.policy not in get_args(Policy) or self.filter not in FILTERS:
            raise ValueError(
                f"unknown preprocessing {self.policy!r} with {self.filter!r}: policy must be one of "
                f"{', '.join(get_args(Policy))}, filter one of {', '.join(FILTERS)}"
            )

    @property
    def min_size(self) -> Size | None:
        """Smallest size at which an image may be decoded; ``None`` if the filter needs the full size."""
        return Size(self.height, self.width) if FILTERS[self.filter][1] else None

    def __call__(self, image: Image) -> Image:
        """RGB uint8 ``[H, W, 3]`` of any size -> uint8 ``[height, width, 3]``; identity where sizes agree."""
        if image.shape[:2] == (self.height, self.width):
            return image
        mode, antialias = FILTERS[self.filter]
        pixels = torch.from_numpy(image if image.flags.writeable else image.copy())[None].permute(0, 3, 1, 2)
        if not antialias:
            pixels = pixels.float()
        # torch's uint8 kernel agrees with Pillow to within 1, is six times as fast, and keeps channels last
        small = interpolate(pixels, self._inside(Size(*image.shape[:2])), mode=mode, antialias=antialias)
        resized = np.ascontiguousarray(small[0].permute(1, 2, 0).to(torch.uint8).numpy())
        if resized.shape[:2] == (self.height, self.width):
            return resized
        padded = np.full((self.height, self.width, 3), PADDING, np.uint8)
        padded[: resized.shape[0], : resized.shape[1]] = resized
        return padded

    def covered(self, size: Size) -> tuple[float, float]:
        """Shares of height and width that an image of ``size`` covers after resizing; the rest is padding."""
        inside = self._inside(size)
        return inside.height / self.height, inside.width / self.width

    def _inside(self, size: Size) -> Size:
        """The size of an image of ``size`` after resizing, without padding."""
        if self.policy == "squash":
            return Size(self.height, self.width)
        scale = min(self.height / size.height, self.width / size.width)
        return Size(max(1, round(size.height * scale)), max(1, round(size.width * scale)))
