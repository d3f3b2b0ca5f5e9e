"""Pages of PDF files, with what is written in them and where."""

from __future__ import annotations

import ctypes
import io
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pypdfium2

from openpali.tasks.example import Box
from openpali_lab.worlds.builders.layout import Shot, Written, group

_HYPHEN = "\x02"  # how pdfium marks a hyphen that breaks a word
_LEVEL = 0.3  # most that baselines of one line differ, in font sizes


def count_pages(path: Path) -> int:
    """The number of pages of a PDF file."""
    document = pypdfium2.PdfDocument(path)
    try:
        return len(document)
    finally:
        document.close()


def print_page(path: Path, number: int, dpi: float, *, inverted: bool = False) -> Shot:
    """Page ``number``, from 0 on, at ``dpi`` dots per inch; ``inverted`` gives light text on a dark ground."""
    document = pypdfium2.PdfDocument(path)
    try:
        page = document[number]
        scale = dpi / 72
        image = page.render(scale=scale, rev_byteorder=True).to_pil().convert("RGB")
        if inverted:
            image = image.point(lambda value: 255 - value)
        words, ignored = _words(page, scale)
        for thing in page.get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_IMAGE], max_depth=4):
            left, bottom, right, top = thing.get_bounds()
            height = page.get_height()
            ignored.append(Box(scale * (height - top), scale * left, scale * (height - bottom), scale * right))
    finally:
        document.close()
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=4)
    return Shot(out.getvalue(), group(words), ignored)


def _words(page: Any, scale: float) -> tuple[list[Written], list[Box]]:
    """The words of a page in the order of the file, and boxes of characters that are no upright text."""
    words: list[Written] = []
    ignored: list[Box] = []
    text, edges, base = "", [0.0, 0.0], (0.0, 0.0)  # of the word so far: left and right, baseline and size
    end = 0.0  # where the next character of the word begins, if nothing is between
    last: Box | None = None  # a ligature is several characters in one box

    def finish() -> None:
        nonlocal text
        if text:
            (left, right), (baseline, size) = edges, base
            words.append(Written(text, Box(baseline - 0.85 * size, left, baseline + 0.25 * size, right), size))
        text = ""

    for character, box, (start, stop), baseline, size, upright in _characters(page, scale):
        if not character.strip():
            finish()
            continue
        if not upright:
            finish()
            ignored.append(box)
            continue
        beside = abs(baseline - base[0]) < _LEVEL * size and -0.5 * size < start - end < 0.25 * size
        accent = unicodedata.combining(character)
        if text and not beside and not accent and box != last:
            finish()
        last, end = box, stop
        if not text:
            edges, base = [box.xmin, box.xmax], (baseline, size)
        text += "-" if character == _HYPHEN else character
        edges[1] = max(edges[1], box.xmax)
        base = (base[0], max(base[1], size))
    finish()
    return words, ignored


def _characters(page: Any, scale: float) -> Iterator[tuple[str, Box, tuple[float, float], float, float, bool]]:
    """Each character with the box of its ink, where it begins and where the next one does, its baseline, its font
    size in pixels, and whether it stands upright."""
    raw, height = pypdfium2.raw, page.get_height()
    texts = page.get_textpage()
    number = ctypes.c_double
    for index in range(texts.count_chars()):
        code = raw.FPDFText_GetUnicode(texts, index)
        character = chr(code) if 0 < code < 0xD800 else "�"
        x, y = number(), number()
        raw.FPDFText_GetCharOrigin(texts, index, x, y)
        left, right, bottom, top = number(), number(), number(), number()
        raw.FPDFText_GetCharBox(texts, index, left, right, bottom, top)
        loose = raw.FS_RECTF()  # with the room on both sides that the font gives the character
        raw.FPDFText_GetLooseCharBox(texts, index, loose)
        size = scale * _font_size(raw, texts, index)
        angle = raw.FPDFText_GetCharAngle(texts, index)
        box = Box(*(scale * edge for edge in (height - top.value, left.value, height - bottom.value, right.value)))
        room = (scale * loose.left, scale * loose.right)
        yield character, box, room, scale * (height - y.value), size, min(angle, 6.2832 - angle) < 0.02


def _font_size(raw: Any, texts: Any, index: int) -> float:
    """The size as drawn, in points: a file may draw a font of size 1 with a matrix that enlarges it."""
    matrix = raw.FS_MATRIX()
    size: float = raw.FPDFText_GetFontSize(texts, index)
    if raw.FPDFText_GetMatrix(texts, index, matrix):
        size *= float((matrix.c**2 + matrix.d**2) ** 0.5)
    return size
