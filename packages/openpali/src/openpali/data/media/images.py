"""Image files -> pixels, and pixels -> the size of the model. Hostile files give one clear error message."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, ImageOps
from PIL import Image as PILImage
from PIL.TiffImagePlugin import TiffImageFile

try:
    import simplejpeg
except ImportError:  # Pillow decodes everything
    simplejpeg = None

from openpali.tasks.example import Image, Mask, Size

MAX_PIXELS = 100_000_000  # a larger image is refused before it is decoded
PDF_HEAD = 1024  # bytes in which the signature of a PDF file stands
FORMATS = (
    *("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "ICO", "CUR", "ICNS", "PSD", "QOI"),
    *("PCX", "DDS", "SGI", "SUN", "FITS", "XBM", "XPM", "TGA", "AVIF"),  # AVIF last: not every Pillow has it
)
"""What is opened: Pillow decodes these itself. EPS, for one, it would give to Ghostscript to run."""


@cache
def image_endings() -> tuple[str, ...]:
    """The endings, in lower case, of files in these formats, as far as the installed Pillow decodes them."""
    return tuple(sorted(end for end, format in PILImage.registered_extensions().items() if format in FORMATS))


def is_image(path: str | Path) -> bool:
    """Whether a file is an image, by its suffix."""
    return Path(path).suffix.lower() in image_endings()


class TooManyPixels(ValueError):
    """An image has more pixels than may be decoded."""


def load_image(
    source: str | Path | bytes, name: str = "", *, min_size: Size | None = None, max_pixels: int = MAX_PIXELS
) -> Image:
    """Decode an image to RGB uint8 ``[H, W, 3]``, upright by its EXIF orientation.

    Palette, grey, CMYK and 16-bit images are converted; transparent pixels are blended with white; an
    animation gives its first frame. Grey values of 12 and 16 bits are scaled by the range of their format; those of
    32 bits and floats, for which no value is white, by their least and greatest value.

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
    """Check that there is a file."""
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
    with _opened(data, name, max_pixels) as image:
        size = _upright_size(image)
        if min_size is not None and image.format == "JPEG":
            turned = size != (image.height, image.width)
            image.draft(None, min_size if turned else min_size[::-1])  # libjpeg skips the finest frequencies
        fast = _decode_jpeg(data, image)
        return (to_rgb(image) if fast is None else fast), size


def decode_mask(data: bytes, name: str = "the mask") -> Mask:
    """Decode an object's mask to bool ``[H, W]``, upright by its EXIF orientation.

    Pixels that are neither black nor transparent are the object's, whatever the mode; of grey values, all but 0.
    """
    with _opened(data, name) as image:
        image = _upright(image)
        if image.mode.startswith(("I", "F")):
            values = np.asarray(image)
            return np.asarray((values != 0) & (values != image.info.get("transparency", 0)))
        rgba = np.asarray((image.convert("RGB") if image.mode == "CMYK" else image).convert("RGBA"))
        return np.asarray(rgba[..., :3].any(axis=-1) & (rgba[..., 3] > 0))


@contextmanager
def _opened(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Iterator[PILImage.Image]:
    """An image whose pixels are still to be decoded; what fails then becomes one sentence."""
    if not data:
        raise ValueError(_empty(name))
    image = _open(io.BytesIO(data), name, max_pixels)
    try:
        if image.format == "PNG":  # while it decodes, Pillow skips the checksums
            PILImage.open(io.BytesIO(data), formats=("PNG",)).verify()
        yield image
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


def image_hash(image: Image) -> str:
    """SHA-256 of the size and pixels of an image ``[H, W, 3]``, as hexadecimal digits."""
    digest = hashlib.sha256(f"{image.shape[0]}x{image.shape[1]}".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def read_size(path: Path) -> Size:
    """Upright size of an image file, from its header; the pixels are not decoded.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an image, or has more than ``MAX_PIXELS`` pixels.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no image file {path}")
    with path.open("rb") as file:
        if not file.read(1):
            raise ValueError(_empty(str(path)))
        file.seek(0)
        image = _open(file, str(path))
        try:
            return _upright_size(image)
        except Exception as error:
            raise ValueError(f"{path} is truncated or damaged: {error}") from error


def begins_pdf(data: bytes) -> bool:
    """Whether these bytes, at least the first :data:`PDF_HEAD` of a file, begin a PDF file."""
    return b"%PDF-" in data[:PDF_HEAD]


def _empty(name: str) -> str:
    return f"{name} is empty (0 bytes)"


def _open(file: BinaryIO, name: str, max_pixels: int = MAX_PIXELS) -> PILImage.Image:
    try:
        image = PILImage.open(file, formats=FORMATS)
    except PILImage.DecompressionBombError as error:
        raise TooManyPixels(f"{name} has more than {max_pixels:,} pixels: shrink it first") from error
    except Exception as error:  # hostile files make Pillow's parsers raise any error
        file.seek(0)
        if begins_pdf(file.read(PDF_HEAD)):
            message = "is a PDF file: `openpali read` reads its text; for anything else take images of its pages"
        else:
            message = "is not an image in a format that Pillow reads: convert an HEIC or SVG image to PNG first"
        raise ValueError(f"{name} {message}") from error
    width, height = image.size
    if width * height > max_pixels:
        raise TooManyPixels(f"{name} has {width} x {height} pixels, more than {max_pixels:,}: shrink it first")
    return image


def _orientation(image: PILImage.Image) -> int:
    try:
        return cast(int, image.getexif().get(ExifTags.Base.Orientation, 1))
    except (SyntaxError, ValueError, struct.error):  # a damaged EXIF block says nothing about the pixels
        return 1


def _upright_size(image: PILImage.Image) -> Size:
    width, height = image.size
    if isinstance(image, TiffImageFile):  # Pillow turns TIFFs itself, and before it decodes them their size alone
        width, height = (image.tag_v2[tag] for tag in (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength))
    turned = _orientation(image) in _ON_ITS_SIDE
    return Size(width, height) if turned else Size(height, width)


_ON_ITS_SIDE = (5, 6, 7, 8)  # EXIF orientations that swap height and width


def _upright(image: PILImage.Image) -> PILImage.Image:
    """The image, decoded and turned; a copy only if it must change."""
    image.load()
    if _orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    clear = image.info.get("transparency")
    if isinstance(clear, tuple) and max(clear) > 255:  # a colour of 16 bits a channel, of which Pillow keeps 8
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    return image


def to_rgb(image: PILImage.Image) -> Image:
    """A Pillow image of any mode as RGB uint8 ``[H, W, 3]``, converted as :func:`load_image` says.

    The image stays as it is.
    """
    levels = _levels(image)
    image = _upright(image)
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        grey = _scaled(values, levels)
        if (clear := image.info.get("transparency")) is not None:
            grey[values == clear] = 255
        image = PILImage.fromarray(grey)
    if image.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = PILImage.new("RGBA", image.size, "white")
        image = PILImage.alpha_composite(white, image)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _levels(image: PILImage.Image) -> tuple[int, int] | None:
    """The values of black and white in an image of modes I and F; None where the format does not say."""
    if image.mode.startswith("I;16") and isinstance(image, TiffImageFile):
        bits = image.tag_v2.get(ExifTags.Base.BitsPerSample, (16,))[0]
        white_is_zero = image.tag_v2.get(ExifTags.Base.PhotometricInterpretation) == 0
        return (2**bits - 1, 0) if white_is_zero else (0, 2**bits - 1)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return 0, 65535
    return None


def _scaled(values: NDArray[np.generic], levels: tuple[int, int] | None) -> NDArray[np.uint8]:
    """Values as 0 to 255, given those of black and white; by default the least and the greatest. NaN is black."""
    if levels is None:
        finite = values[np.isfinite(values)]
        levels = (finite.min(), finite.max()) if finite.size else (0, 0)
    black, white = map(float, levels)
    shares = (values.astype(np.float64) - black) / ((white - black) or 1)
    return np.nan_to_num(np.clip(shares * 255, 0, 255)).astype(np.uint8)


FILTERS = {
    "bilinear-antialias": ("bilinear", True),  # our training default
    "bicubic-antialias": ("bicubic", True),  # SigLIP in transformers
    "bilinear": ("bilinear", False),  # big_vision's `resize`: half-pixel centres, result truncated to integers
}


def resize(image: Image, size: Size, filter: str) -> Image:
    """Resize RGB uint8 ``[H, W, 3]`` to ``size`` by one of :data:`FILTERS`."""
    import torch  # not at the top: commands look for their files before they wait for it
    from torch.nn.functional import interpolate

    mode, antialias = FILTERS[filter]
    pixels = torch.from_numpy(image if image.flags.writeable else image.copy())[None].permute(0, 3, 1, 2)
    if not antialias:
        pixels = pixels.float()
    # torch's uint8 kernel agrees with Pillow to within 1, is six times as fast, and keeps channels last
    small = interpolate(pixels, size, mode=mode, antialias=antialias)
    return np.ascontiguousarray(small[0].permute(1, 2, 0).to(torch.uint8).numpy())


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

    def mismatch(self, size: Size) -> float:
        """How many times wider or higher than the model's images an image is, in proportion; from 1."""
        ratio = self.width * size.height / (self.height * size.width)
        return max(ratio, 1 / ratio)

    @property
    def min_size(self) -> Size | None:
        """Smallest size at which an image may be decoded; ``None`` if the filter needs the full size."""
        return Size(self.height, self.width) if FILTERS[self.filter][1] else None

    def __call__(self, image: Image) -> Image:
        """RGB uint8 ``[H, W, 3]`` of any size -> uint8 ``[height, width, 3]``; identity where sizes agree."""
        if image.shape[:2] == (self.height, self.width):
            return image
        resized = resize(image, self._inside(Size(*image.shape[:2])), self.filter)
        if resized.shape[:2] == (self.height, self.width):
            return resized
        padded = np.full((self.height, self.width, 3), PADDING, np.uint8)
        padded[: resized.shape[0], : resized.shape[1]] = resized
        return padded

    def arrays(self, image: Image) -> dict[str, NDArray[Any]]:
        """An image resized, as the array ``images [height, width, 3]`` of a sample."""
        return self.pack(self(image))

    def pack(self, resized: Image) -> dict[str, NDArray[Any]]:
        """:meth:`arrays` of an image that is resized already."""
        return {"images": resized}

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
