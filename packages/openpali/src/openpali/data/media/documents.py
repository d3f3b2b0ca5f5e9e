"""Files of one or more pages: images, TIFF and PDF."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from openpali.data.media.images import MAX_PIXELS, PDF_HEAD, begins_pdf, check_image_file, check_page, tiff_pages
from openpali.tasks.example import Image

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

_PDFIUM = Lock()  # PDFium takes one call at a time, also for other documents
DAMAGED = 10  # damaged pages in a row; a tree of pages that holds itself has as many as it claims


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
        ValueError: it cannot be read, has fewer pages, or :data:`DAMAGED` pages that follow are damaged.
    """
    check_image_file(path)
    if is_pdf(path):
        return pdf_pages(path, str(path), dpi, first)
    return tiff_pages(path, first)


def pdf_pages(
    source: str | Path | bytes, path: str, dpi: float, first: int = 1, max_pixels: int = MAX_PIXELS
) -> Iterator[Callable[[], Image]]:
    """The pages of a PDF file as :func:`pages_of`.

    Args:
        source: the file, or its content.
        path: what errors call it.
        max_pixels: of a page; a larger one raises ValueError.
    """
    import pypdfium2

    try:
        with _PDFIUM:
            document = pypdfium2.PdfDocument(source)
            count = len(document)
    except pypdfium2.PdfiumError as error:
        locked = "password" in str(error).lower()
        told = "is locked by a password: unlock it first" if locked else "is a damaged PDF file, or has no pages"
        raise ValueError(f"{path} {told}") from error
    try:
        check_page(path, first, count)
        for number in range(first - 1, count):
            run = range(number, number + DAMAGED)
            if run.stop <= count and all(_is_damaged(document, each) for each in run):
                raise ValueError(f"{path} is damaged from page {number + 1} on: the rest of it was not read")
            yield partial(_drawn, document, number, f"page {number + 1} of {path}", dpi, max_pixels)
    finally:
        with _PDFIUM:
            document.close()


def _is_damaged(document: PdfDocument, number: int) -> bool:
    import pypdfium2

    try:
        with _PDFIUM:
            document[number].close()
    except pypdfium2.PdfiumError:
        return True
    return False


def _drawn(document: PdfDocument, number: int, told: str, dpi: float, max_pixels: int) -> Image:
    import pypdfium2

    with _PDFIUM, ExitStack() as stack:
        try:
            page = stack.enter_context(closing(document[number]))
        except pypdfium2.PdfiumError as error:
            raise ValueError(f"{told} is damaged") from error
        inches = page.get_width() * page.get_height() / 72**2
        if inches * dpi**2 > max_pixels:
            raise ValueError(f"{told} is too large at {dpi:g} dots per inch: lower --dpi, or send it as an image")
        return np.array(page.render(scale=dpi / 72, rev_byteorder=True).to_pil().convert("RGB"))
