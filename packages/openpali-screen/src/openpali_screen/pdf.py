"""Searchable PDF files: the image of each page, and its words as invisible text over it.

Words of Latin-1 are in Helvetica, which every reader has. Others, such as Cyrillic and Greek, are in a font of the
system, which is embedded; without one they are left out, and counted.
"""

from __future__ import annotations

import ctypes
import io
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import pypdfium2
from PIL import Image as PilImage
from PIL import ImageFont
from pypdfium2 import raw

from openpali_screen.export import TextFormat
from openpali_screen.geometry import Box, Image
from openpali_screen.text import ReadPage
from openpali_screen.tree import Node

_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial.ttf", "arial.ttf")
_DESCENT = 0.21  # heights of a word from its lower edge up to the line that it stands on
_QUALITY = 90  # of the JPEG of a page


class PdfFormat(TextFormat):
    """A PDF file of all pages, which :meth:`save` writes.

    Args:
        dpi: dots per inch of the images: the size of pages is theirs.
    """

    def __init__(self, dpi: float) -> None:
        super().__init__()
        self.document, self.scale = pypdfium2.PdfDocument.new(), 72 / dpi
        self.left_out = 0  # words without a font
        self._image: Image | None = None

    def show(self, image: Image) -> None:
        self._image = image

    def page(self, page: ReadPage, file: str = "", number: int = 1, root: Node | None = None) -> str:
        if self._image is None:
            raise ValueError("a page of a PDF file needs its image: call show first")
        self.pages += 1
        width, height = (self.scale * side for side in (page.size.width, page.size.height))
        drawn = self.document.new_page(width, height)
        drawn.insert_obj(self._picture(self._image, width, height))
        for line in page.lines:
            for word in line.words:
                if text := self._text(word.text, word.box, height):
                    raw.FPDFPage_InsertObject(drawn, text)
                else:
                    self.left_out += 1
        drawn.gen_content()
        drawn.close()
        return ""

    def save(self, file: BinaryIO) -> None:
        """Write all pages; nothing if there are none."""
        if self.pages:
            self.document.save(file)

    def _picture(self, image: Image, width: float, height: float) -> Any:
        """An image that covers its page."""
        jpeg = io.BytesIO()
        PilImage.fromarray(image).save(jpeg, "JPEG", quality=_QUALITY)
        picture = pypdfium2.PdfImage.new(self.document)
        picture.load_jpeg(jpeg, inline=True)
        picture.set_matrix(pypdfium2.PdfMatrix().scale(width, height))
        return picture

    def _text(self, text: str, box: Box, height: float) -> Any:
        """Invisible text that is as wide as its box in pixels of the page; None: no font has its characters."""
        if not (font := self._helvetica if _is_latin(text) else self._embedded):
            return None
        size = max(1.0, self.scale * box.height)
        thing = raw.FPDFPageObj_CreateTextObj(self.document, font, size)
        _set_text(thing, text)
        left, bottom, right, top = (ctypes.c_float() for _ in range(4))
        raw.FPDFPageObj_GetBounds(thing, left, bottom, right, top)
        stretch = self.scale * box.width / max(0.1, right.value - left.value)
        _set_text(thing, f"{text} ")  # else words that are near each other are taken for one
        raw.FPDFTextObj_SetTextRenderMode(thing, raw.FPDF_TEXTRENDERMODE_INVISIBLE)
        x, y = self.scale * box.xmin - stretch * left.value, height - self.scale * box.ymax + _DESCENT * size
        raw.FPDFPageObj_Transform(thing, stretch, 0, 0, 1, x, y)
        return thing

    @cached_property
    def _helvetica(self) -> Any:
        return raw.FPDFText_LoadStandardFont(self.document, b"Helvetica")

    @cached_property
    def _embedded(self) -> Any:
        """A font of the system with Cyrillic and Greek; None: there is none."""
        if not (path := font_file()):
            return None
        data = path.read_bytes()
        return raw.FPDFText_LoadFont(
            self.document, (ctypes.c_ubyte * len(data)).from_buffer_copy(data), len(data), raw.FPDF_FONT_TRUETYPE, 1
        )


def _set_text(thing: Any, text: str) -> None:
    units = f"{text}\0".encode("utf-16-le")
    raw.FPDFText_SetText(thing, (ctypes.c_ushort * (len(units) // 2)).from_buffer_copy(units))


def font_file() -> Path | None:
    """The file of a font with Cyrillic and Greek, where the system keeps its fonts."""
    for name in _FONTS:
        try:
            return Path(str(ImageFont.truetype(name).path))
        except OSError:
            continue
    return None


def _is_latin(text: str) -> bool:
    return all(character <= "\xff" for character in text)
