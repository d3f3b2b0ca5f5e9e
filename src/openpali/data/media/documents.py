"""Files of one or more pages: images, TIFF and PDF."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from openpali.data.media.images import MAX_PIXELS, PDF_HEAD, begins_pdf, check_image_file, check_page, tiff_pages
from openpali.tasks.example import Image

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument


def is_pdf(path: str | Path) -> bool:
    """Whether a file is a PDF, by its first bytes."""
    with Path(path).open("rb") as file:
        return begins_pdf(file.read(PDF_HEAD))


def open_pages(path: str | Path, dpi: float, first: int = 1) -> Iterator[Image]:
    """The pages of a PDF or TIFF file, from number ``first`` on: uint8 ``[H, W, 3]``. Any other image is one page.

    Args, Raises: as :func:`pages_of` and the functions that it gives.
    """
    return (page() for page in pages_of(path, dpi, first))


def pages_of(path: str | Path, dpi: float, first: int = 1) -> Iterator[Callable[[], Image]]:
    """For each page of :func:`open_pages` a function that returns it, to be called before the next.

    It raises ValueError for a page that is damaged or too large; others may be whole.

    Args:
        path: a PDF file, or an image as :func:`~openpali.data.media.images.load_image` takes it.
        dpi: dots per inch at which PDF pages are drawn.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or has fewer pages.
    """
    check_image_file(path)
    if not is_pdf(path):
        yield from tiff_pages(path, first)
        return
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        locked = "password" in str(error).lower()
        told = "is locked by a password: unlock it first" if locked else "is a damaged PDF file, or has no pages"
        raise ValueError(f"{path} {told}") from error
    with closing(document):
        check_page(str(path), first, len(document))
        for number in range(first - 1, len(document)):
            yield partial(_drawn, document, number, f"page {number + 1} of {path}", dpi)


def _drawn(document: PdfDocument, number: int, told: str, dpi: float) -> Image:
    import pypdfium2

    try:
        page = document[number]
    except pypdfium2.PdfiumError as error:
        raise ValueError(f"{told} is damaged") from error
    with closing(page):
        inches = page.get_width() * page.get_height() / 72**2
        if inches * dpi**2 > MAX_PIXELS:
            raise ValueError(f"{told} is too large at {dpi:g} dots per inch: lower --dpi")
        return np.array(page.render(scale=dpi / 72, rev_byteorder=True).to_pil().convert("RGB"))
