"""Files of one or more pages: images, and PDF."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from openpali.data.media.images import MAX_PIXELS, check_image_file, load_image
from openpali.tasks.example import Image


def is_pdf(path: str | Path) -> bool:
    """Whether a file is a PDF, by its first bytes."""
    with Path(path).open("rb") as file:
        return b"%PDF-" in file.read(1024)


def open_pages(path: str | Path, dpi: float) -> Iterator[Image]:
    """The pages of a file, one by one: uint8 ``[H, W, 3]``. An image is one page.

    Args:
        path: an image as :func:`~openpali.data.media.images.load_image` takes it, or a PDF file.
        dpi: dots per inch at which PDF pages are drawn.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read.
    """
    check_image_file(path)
    if not is_pdf(path):
        yield load_image(path)
        return
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        locked = "password" in str(error).lower()
        told = "is locked by a password: unlock it first" if locked else "is a damaged PDF file, or has no pages"
        raise ValueError(f"{path} {told}") from error
    with closing(document):
        for number in range(len(document)):
            try:
                page = document[number]
            except pypdfium2.PdfiumError as error:
                raise ValueError(f"page {number + 1} of {path} is damaged") from error
            inches = page.get_width() * page.get_height() / 72**2
            if inches * dpi**2 > MAX_PIXELS:
                raise ValueError(f"page {number + 1} of {path} is too large at {dpi:g} dots per inch: lower --dpi")
            yield np.array(page.render(scale=dpi / 72, rev_byteorder=True).to_pil().convert("RGB"))
            page.close()
