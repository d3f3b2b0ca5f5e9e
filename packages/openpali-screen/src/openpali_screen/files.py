"""Files of screens and pages -> pixels: images, TIFF and PDF. A hostile file gives one clear error."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from PIL import Image as PilImage
from PIL import ImageOps, ImageSequence, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from openpali_screen.geometry import Image

MAX_PIXELS = 100_000_000  # a larger page is refused before it is decoded
FORMATS = (
    *("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "ICO", "CUR", "ICNS", "PSD", "QOI"),
    *("PCX", "DDS", "SGI", "SUN", "FITS", "XBM", "XPM", "TGA", "AVIF"),
)
"""What is opened: Pillow decodes these itself. EPS, for one, it would give to Ghostscript to run."""
_DAMAGED = 10  # damaged pages in a row; a tree of pages that holds itself has as many as it claims
_THUMBNAIL = 254  # tag of TIFF, whose first bit says that a frame is one
_PDFIUM = Lock()  # PDFium takes one call at a time, also for other documents

ImageLike = str | Path | bytes | PilImage.Image | Image
"""An image of any size: its file, the bytes of that, or its pixels; arrays are uint8 ``[H, W, 3]``."""
T = TypeVar("T")


def open_image(image: ImageLike) -> Image:
    """Any kind of image as RGB uint8 ``[H, W, 3]``, upright by its EXIF orientation; transparency is white.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no image, damaged, or has more than :data:`MAX_PIXELS` pixels.
    """
    if isinstance(image, PilImage.Image):
        pixels = _rgb(image)
    elif isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"an image must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
        pixels = image
    else:
        data = image if isinstance(image, bytes) else _bytes(image)
        name = "the image" if isinstance(image, bytes) else str(image)
        pixels = next(_image_pages(data, name, 1))()
    if not pixels.size:
        raise ValueError(f"an image of {pixels.shape[1]} x {pixels.shape[0]} pixels has none: give another")
    return pixels


def pages_of(path: str | Path, dpi: float, first: int = 1) -> Iterator[Callable[[], Image]]:
    """For each page of a file, from number ``first`` on, a function that returns its pixels, to be called before
    the next; it raises ValueError for a page that is damaged or too large. An image is one page.

    Args:
        dpi: dots per inch at which PDF pages are drawn.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, has fewer pages, or many that follow each other are damaged.
    """
    data = _bytes(Path(path))
    return pdf_pages(data, str(path), dpi, first) if is_pdf(data) else _image_pages(data, str(path), first)


def is_pdf(data: bytes) -> bool:
    """Whether a file with this content is a PDF."""
    return b"%PDF-" in data[:1024]


def check_file(path: str | Path) -> None:
    """Check that there is a file."""
    path = Path(path)
    if "://" in str(path):
        raise ValueError(f"{path} is a URL: download the file first")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give its files, as in {path / '*.png'}")
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")


def _bytes(path: str | Path) -> bytes:
    check_file(path)
    if not (data := Path(path).read_bytes()):
        raise ValueError(f"{path} is empty (0 bytes)")
    return data


def _image_pages(data: bytes, name: str, first: int) -> Iterator[Callable[[], Image]]:
    """The frames of a TIFF file without thumbnails, or the first frame of another image."""

    def opened(look: Callable[[PilImage.Image], T], what: str = name) -> T:
        try:
            with PilImage.open(io.BytesIO(data), formats=FORMATS) as image:
                return look(image)
        except Exception as error:  # hostile files make Pillow's parsers raise any error
            known = isinstance(error, UnidentifiedImageError)
            why = "is not an image in a format that Pillow reads: convert an HEIC or SVG image to PNG first"
            raise ValueError(f"{what} {why if known else f'is damaged or too large: {error}'}") from error

    def pixels(frame: int, number: int) -> Image:
        def look(image: PilImage.Image) -> Image:
            if image.format == "PNG":  # while it decodes, Pillow skips the checksums
                PilImage.open(io.BytesIO(data), formats=("PNG",)).verify()
            image.seek(frame)
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"more than {MAX_PIXELS:,} pixels: shrink it first")
            return _rgb(image)

        return opened(look, f"page {number} of {name}" if len(found) > 1 else name)

    def frames(image: PilImage.Image) -> list[int]:
        if not isinstance(image, TiffImageFile):
            return [0]
        return [n for n, _ in enumerate(ImageSequence.Iterator(image)) if not image.tag_v2.get(_THUMBNAIL, 0) & 1]

    found = opened(frames)
    if first > len(found):
        raise ValueError(f"{name} has no page {first}: it has {len(found)}")
    return (partial(pixels, frame, number) for number, frame in enumerate(found[first - 1 :], first))


def _rgb(image: PilImage.Image) -> Image:
    """RGB uint8 ``[H, W, 3]``. Grey values of 16 bits are scaled by the range of their format, others that are no
    bytes by their least and greatest value."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):
        values = np.nan_to_num(np.asarray(upright, np.float64))
        whole = upright.mode.startswith("I;16") or image.format in ("PNG", "PPM")
        black, white = (0.0, 65535.0) if whole else (values.min(), values.max())
        upright = PilImage.fromarray(
            ((values - black) * 255 / ((white - black) or 1)).clip(0, 255).astype(np.uint8)
        )
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        upright = PilImage.alpha_composite(PilImage.new("RGBA", upright.size, "white"), upright)
    return np.array(upright.convert("RGB"))


def pdf_pages(
    data: bytes, name: str, dpi: float, first: int = 1, most: int = MAX_PIXELS
) -> Iterator[Callable[[], Image]]:
    """As :func:`pages_of`, of the content of a PDF file, whose pages have ``most`` pixels."""
    import pypdfium2

    def page(number: int, use: Callable[[Any], T]) -> T:
        try:
            with _PDFIUM:
                opened = document[number]
                try:
                    return use(opened)
                finally:
                    opened.close()
        except pypdfium2.PdfiumError as error:
            raise ValueError(f"page {number + 1} of {name} is damaged") from error
        except ValueError as error:
            raise ValueError(f"page {number + 1} of {name}: {error}") from error

    def drawn(opened: Any) -> Image:
        if opened.get_width() * opened.get_height() * (dpi / 72) ** 2 > most:
            raise ValueError(f"it is too large at {dpi:g} dots per inch: lower that")
        return np.array(opened.render(scale=dpi / 72, rev_byteorder=True).to_pil().convert("RGB"))

    def is_damaged(number: int) -> bool:
        try:
            page(number, lambda opened: None)
        except ValueError:
            return True
        return False

    try:
        with _PDFIUM:
            document = pypdfium2.PdfDocument(data)
            count = len(document)
    except pypdfium2.PdfiumError as error:
        locked = "password" in str(error).lower()
        why = "is locked by a password: unlock it first" if locked else "is a damaged PDF file, or has no pages"
        raise ValueError(f"{name} {why}") from error
    try:
        if first > count:
            raise ValueError(f"{name} has no page {first}: it has {count}")
        for number in range(first - 1, count):
            run = range(number, number + _DAMAGED)
            if run.stop <= count and all(map(is_damaged, run)):
                raise ValueError(f"{name} is damaged from page {number + 1} on: the rest of it was not read")
            yield partial(page, number, drawn)
    finally:
        with _PDFIUM:
            document.close()
