"""The text of pages in formats: plain text, Markdown, JSON, hOCR, TSV in the columns of Tesseract."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape
from itertools import groupby
from statistics import median
from typing import Any, ClassVar

from PIL import Image as PilImage
from PIL import ImageDraw

from openpali_screen import __version__
from openpali_screen.geometry import Box, Image, around
from openpali_screen.text import ReadLine, ReadPage, ReadWord, text_of_row
from openpali_screen.tree import Node, as_json, as_text

_COLUMNS = (
    *("level", "page_num", "block_num", "par_num", "line_num", "word_num"),
    *("left", "top", "width", "height", "conf", "text"),
)
_HEADINGS = ((1.8, "# "), (1.3, "## "))
"""Least height of a heading in heights of the median line, and its mark."""
_SPECIAL = re.compile(
    r"[\\`*_~<\[\]|]|&(?=[#\w])|^#(?=#*(?: |$))|(?<= )#(?=#*$)|^>|^[+-](?= |$)|^=(?==*$)|^-(?=-*$)"
)
"""What Markdown reads as markup, rather than as text."""
_BULLET = re.compile(r"[•◦▪■●○‣·–-] +(?=\S)")
LEGEND = 22  # pixels below a drawn page
_PAGE, _LINE, _WORD = 1, 4, 5  # levels of Tesseract's layout
_HOCR = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml">
<head>
<title></title>
<meta http-equiv="Content-Type" content="text/html;charset=utf-8"/>
<meta name="ocr-system" content="openpali {version}"/>
<meta name="ocr-capabilities" content="ocr_page ocr_line ocrx_word"/>
</head>
<body>"""


def page_json(page: ReadPage, file: str = "", number: int = 1) -> dict[str, Any]:
    """Plain JSON values; boxes are [ymin, xmin, ymax, xmax] in pixels of the page.

    Args:
        file, number: the name of its file, if it has one, and which page of it this is, from 1 on.
    """
    return {
        **({"file": file, "page": number} if file else {}),
        "height": page.size.height,
        "width": page.size.width,
        "angle": page.angle,
        "out_of_distribution": page.out_of_distribution,
        "reason": page.reason,
        "ood_score": page.ood_score,
        "text": page.text,
        "lines": [
            {
                "text": line.text,
                "block": line.block,
                "row": line.row,
                **_placed(line),
                "words": [{"text": w.text, **_placed(w)} for w in line.words],
            }
            for line in page.lines
        ],
    }


class TextFormat:
    """Text, with an empty line between blocks; a page ends with a form feed, as Tesseract's and pdftotext's.

    Attributes:
        head, tail: what stands before the first page, and after the last.
        pages: how many were written; hOCR and TSV number pages through all files.
    """

    head: ClassVar[str] = ""
    tail: ClassVar[str] = ""

    def __init__(self) -> None:
        self.pages = 0

    def show(self, image: Image) -> None:
        """Take the pixels ``[H, W, 3]`` uint8 of the page that is written next; text needs none."""

    def page(self, page: ReadPage, file: str = "", number: int = 1, root: Node | None = None) -> str:
        return "\n\n".join("\n".join(map(text_of_row, rows)) for rows in page.blocks) + "\n\f"


class MarkdownFormat(TextFormat):
    """CommonMark with GitHub tables: headings by the height of text, lists by bullets, tables by columns."""

    def page(self, page: ReadPage, file: str = "", number: int = 1, root: Node | None = None) -> str:
        common = median([line.extent.height for line in page.lines]) if page.lines else 0.0
        return "".join(f"{part}\n\n" for rows in page.blocks for part in self._block(rows, common))

    def _block(self, rows: Sequence[Sequence[ReadLine]], common: float) -> Iterator[str]:
        """The parts of a block; ``common``: the median height of lines, in pixels."""
        if len(rows) > 1 and len(rows[0]) > 1 and len({len(row) for row in rows}) == 1:
            head, *others = [" | ".join(_escaped(cell.text) for cell in row) for row in rows]
            rule = " | ".join("---" for _ in rows[0])
            yield "\n".join(f"| {row} |" for row in (head, rule, *others))
            return
        for mark, some in groupby(rows, lambda row: self._heading(row, common)):
            lines = [text_of_row(row) for row in some]
            if mark:
                yield from (mark + _escaped(line) for line in lines)
            else:
                yield "\n".join(_item(line) for line in lines)

    def _heading(self, row: Sequence[ReadLine], common: float) -> str:
        height = max(line.extent.height for line in row)
        return next((mark for least, mark in _HEADINGS if height >= least * common), "")


class JsonFormat(TextFormat):
    """A line of JSON for each page, with the nodes of its tree if elements were found."""

    def page(self, page: ReadPage, file: str = "", number: int = 1, root: Node | None = None) -> str:
        elements = {"elements": as_json(root)} if root else {}
        return json.dumps({**page_json(page, file, number), **elements}, ensure_ascii=False) + "\n"


class TreeFormat(TextFormat):
    """A row for each node of a screen, with its name, box and number."""

    def page(self, page: ReadPage, file: str = "", number: int = 1, root: Node | None = None) -> str:
        return as_text(root) if root else super().page(page, file, number)


class TsvFormat(TextFormat):
    """The columns of ``tesseract ... tsv``; a line is a row of the page, and rows are numbered through it."""

    head = "\t".join(_COLUMNS) + "\n"

    def page(self, page: ReadPage, file: str = "", number: int = 1, root: Node | None = None) -> str:
        self.pages += 1
        rows = [self._row(_PAGE, (self.pages, 0, 0, 0, 0), Box(0, 0, *page.size))]
        for i, line in enumerate(map(_one_line, page.rows), 1):
            place = self.pages, line.block + 1, 1, i
            rows.append(self._row(_LINE, (*place, 0), line.box))
            for j, word in enumerate(line.words, 1):
                rows.append(self._row(_WORD, (*place, j), word.box, 100 * word.confidence, word.text))
        return "".join(rows)

    def _row(self, level: int, place: tuple[int, ...], box: Box, confidence: float = -1, text: str = "") -> str:
        top, left, bottom, right = _whole(box)
        numbers = (level, *place, left, top, right - left, bottom - top)
        return "\t".join([*map(str, numbers), f"{confidence:.6g}", text]) + "\n"


class HocrFormat(TextFormat):
    """hOCR 1.2 (https://kba.github.io/hocr-spec/1.2/): pages, rows and words with boxes and confidence."""

    head = _HOCR.format(version=__version__) + "\n"
    tail = "</body>\n</html>\n"

    def page(self, page: ReadPage, file: str = "", number: int = 1, root: Node | None = None) -> str:
        self.pages += 1
        return "".join(f"{row}\n" for row in self._rows(page, file))

    def _rows(self, page: ReadPage, file: str) -> Iterator[str]:
        whole = _hocr_box(Box(0, 0, *page.size))
        image = escape(file, quote=True)
        yield (
            f"<div class='ocr_page' id='page_{self.pages}' "
            f"title='image &quot;{image}&quot;; {whole}; ppageno {self.pages - 1}'>"
        )
        turned = f"; textangle {page.angle:g}" if page.angle else ""
        for i, line in enumerate(map(_one_line, page.rows), 1):
            name = f"{self.pages}_{i}"
            yield f"<span class='ocr_line' id='line_{name}' title='{_hocr_box(line.box)}{turned}'>"
            for j, word in enumerate(line.words, 1):
                title = f"{_hocr_box(word.box)}; x_wconf {round(100 * word.confidence)}"
                yield f"<span class='ocrx_word' id='word_{name}_{j}' title='{title}'>{escape(word.text)}</span>"
            yield "</span>"
        yield "</div>"


FORMATS = {
    "tree": TreeFormat,
    "json": JsonFormat,
    "markdown": MarkdownFormat,
    "text": TextFormat,
    "hocr": HocrFormat,
    "tsv": TsvFormat,
}
"""Name of a format -> what writes it."""


def draw_page(image: Image, lines: Sequence[ReadLine]) -> PilImage.Image:
    """The boxes of words on their page ``[H, W, 3]`` uint8, from red, not confident, to green, and a legend."""
    height, width = image.shape[:2]
    drawn = PilImage.new("RGB", (width, height + LEGEND), "white")
    drawn.paste(PilImage.fromarray(image))
    draw = ImageDraw.Draw(drawn, "RGBA")
    for word in (word for line in lines for word in line.words):
        top, left, bottom, right = _whole(word.box)
        colour = _colour(word.confidence)
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), (*colour, 40), colour)
    for i in range(60):
        draw.line((6 + i, height + 6, 6 + i, height + LEGEND - 7), _colour(i / 59))
    draw.text((72, height + LEGEND // 2), "confidence, 0 to 1", "black", anchor="lm")
    return drawn


def _item(text: str) -> str:
    """A line of Markdown: an item of a list if it begins with a bullet."""
    bullet = _BULLET.match(text)
    return f"- {_escaped(text[bullet.end() :])}" if bullet else _escaped(text)


def _escaped(text: str) -> str:
    return _SPECIAL.sub(lambda found: "\\" + found[0], text)


def _one_line(row: Sequence[ReadLine]) -> ReadLine:
    words = [word for line in row for word in line.words]
    return replace(row[0], words=words, box=around(line.box for line in row))


def _colour(confidence: float) -> tuple[int, int, int]:
    return round(230 * (1 - confidence)), round(170 * confidence), 60


def _placed(thing: ReadLine | ReadWord) -> dict[str, Any]:
    return {"box": [round(edge, 1) for edge in thing.box], "confidence": round(thing.confidence, 4)}


def _whole(box: Box) -> tuple[int, int, int, int]:
    """Edges in whole pixels: top, left, bottom, right."""
    return round(box.ymin), round(box.xmin), round(box.ymax), round(box.xmax)


def _hocr_box(box: Box) -> str:
    top, left, bottom, right = _whole(box)
    return f"bbox {left} {top} {right} {bottom}"
