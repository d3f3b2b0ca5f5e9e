"""What lines of text say: the reader sees them in pieces, lines of like width together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from PIL import Image as PilImage

from openpali_screen.geometry import Box, Image, around, chunked
from openpali_screen.language import SPACE, LanguageModel
from openpali_screen.networks import Floats, Ints, ReaderNetwork
from openpali_screen.read.ctc import Letter, read_columns
from openpali_screen.text import ReadLine, ReadWord
from openpali_screen.views import MARGIN, PATCH, WIDTHS, View, end_at, view_of_line

LINES = 16  # of a batch: more of them are slower on a core
_CLEAR = 0.05  # a line whose text has this probability is not seen in negative, too; most lines are long
_SPACE = 0.18  # heights of a box; what is narrower is the room between two letters
_LIGHT = 128  # mean of the pixels of a line, 0..255, below which it is light on dark


class _Piece(NamedTuple):
    """A part of a line that the reader sees at once.

    Attributes:
        columns: of patches in its view.
        shown: columns of pixels up to where the line is cut.
        goes_on: whether the line is cut within a word before it.
    """

    line: int
    view: View
    columns: int
    shown: int
    goes_on: bool


def read_lines(
    reader: ReaderNetwork, image: Image, boxes: Sequence[Box], language: LanguageModel | None = None
) -> list[ReadLine]:
    """What lines of an image ``[H, W, 3]`` uint8 say, by their boxes; ``language`` decides where unclear."""
    page, steps, (height, widest) = PilImage.fromarray(image), reader.steps, reader.size
    pieces = [piece for i, box in enumerate(boxes) for piece in _pieces(page, i, box, height, widest)]
    words: list[list[ReadWord]] = [[] for _ in boxes]
    words_of: dict[int, list[ReadWord]] = {}
    order = sorted(range(len(pieces)), key=lambda i: pieces[i].columns)  # lines of like width share a batch
    for some in chunked(order, LINES):
        wide = -(-max(pieces[i].columns for i in some) * PATCH // WIDTHS) * WIDTHS
        batch = np.zeros((len(some), height, min(wide, widest), 3), np.uint8)
        for row, i in zip(batch, some, strict=True):
            own = pieces[i].columns * PATCH
            row[:, :own] = end_at(pieces[i].view.of(page, height, own), pieces[i].shown)
        probabilities = _look_twice(reader, batch, np.array([pieces[i].columns for i in some]))
        for i, row in zip(some, probabilities, strict=True):
            letters = read_columns(row[: pieces[i].columns * steps], language)
            box = boxes[pieces[i].line]
            words_of[i] = list(_words(letters, PATCH // steps, reader.characters, pieces[i].view, box))
    for i, piece in enumerate(pieces):
        line = words[piece.line]
        if piece.goes_on and line and words_of[i]:
            words_of[i][0] = _one_word(line.pop(), words_of[i][0])
        line += words_of[i]
    return [ReadLine(own, around([box, *(w.box for w in own)])) for own, box in zip(words, boxes, strict=True)]


def _look_twice(reader: ReaderNetwork, images_BHWC: Image, columns_B: Ints) -> Floats:
    """Probabilities of characters at each step of lines, ``[B, S, characters + 1]``.

    Lines that are light on dark and not surely read are seen in negative, too, and both looks averaged: most lines
    that a reader learns from are dark on light.
    """
    probabilities_BTC = reader.run(images_BHWC, columns_B)
    own_BT = np.arange(probabilities_BTC.shape[1]) < columns_B[:, None] * reader.steps
    best_B = np.where(own_BT, probabilities_BTC.max(2), 1).prod(1)  # the probability of the most probable path
    own_BW = np.arange(images_BHWC.shape[2]) < columns_B[:, None] * PATCH
    light_B = (images_BHWC.mean((1, 3)) * own_BW).sum(1) / own_BW.sum(1)
    again = np.flatnonzero((best_B < _CLEAR) & (light_B < _LIGHT))
    if len(again):
        probabilities_BTC = probabilities_BTC.copy()
        probabilities_BTC[again] += reader.run(255 - images_BHWC[again], columns_B[again])
        probabilities_BTC[again] /= 2
    return probabilities_BTC


def _pieces(page: PilImage.Image, line: int, box: Box, height: int, widest: int) -> Iterator[_Piece]:
    """Parts of a line of at most ``widest`` pixels at the height of the reader, cut where nothing is written."""
    room = MARGIN * box.height
    most = widest / height * (box.height + 2 * room)
    parts: list[tuple[float, float, bool]] = []
    left, goes_on = box.xmin, False
    while left - room + most < box.xmax + room:
        cut, width = _cut(page, box, left - room + 0.35 * most, left - room + most)
        parts.append((left, cut - room, goes_on))
        left, goes_on = cut + room, width < _SPACE * box.height
    for start, right, within in [*parts, (left, box.xmax, goes_on)]:
        view, wide = view_of_line(box._replace(xmin=start, xmax=right), height, widest)
        shown = wide if right == box.xmax else int((right + room - view.left) * view.right)
        yield _Piece(line, view, wide // PATCH, shown, within)


def _cut(page: PilImage.Image, box: Box, first: float, last: float) -> tuple[float, float]:
    """Where a line is best cut between ``first`` and ``last``, in the middle of the widest place without ink; and
    how wide that is."""
    top = min(max(0, round(box.ymin)), page.height - 1)  # beyond the page all is black
    bottom = max(top + 1, min(page.height, round(box.ymax)))
    part = page.crop((int(first), top, min(int(last), page.width), bottom)).convert("L")
    columns = np.asarray(part, np.float32)
    ink = columns.max(0) - columns.min(0) > 0.25 * max(1.0, float(columns.max() - columns.min()))
    edges = np.flatnonzero(np.diff(ink.astype(np.int8), prepend=1, append=1)).reshape(-1, 2)
    if not len(edges):
        return last, 0.0
    start, stop = edges[np.argmax(edges[:, 1] - edges[:, 0])]
    return int(first) + float(start + stop) / 2, float(stop - start)


def _one_word(start: ReadWord, end: ReadWord) -> ReadWord:
    """Two parts of a word as one."""
    return ReadWord(start.text + end.text, around((start.box, end.box)), start.confidence * end.confidence)


def _words(
    letters: Sequence[Letter], step: int, characters: Sequence[str], view: View, line: Box
) -> Iterator[ReadWord]:
    """The words of a line, whose columns are ``step`` pixels wide; a word's box ends with its characters."""
    grow = 0.2 * line.height  # CTC fires somewhere within a character
    for is_space, some in groupby(letters, lambda letter: letter.number == SPACE):
        word = list(some)
        left, right = (view.left + column * step / view.right for column in (word[0].column, word[-1].column + 1))
        box = Box(line.ymin, max(line.xmin, left - grow), line.ymax, min(line.xmax, right + grow))
        if not is_space and box.xmin < box.xmax:
            text = "".join(characters[letter.number - 1] for letter in word)
            yield ReadWord(text, box, float(np.prod([letter.probability for letter in word])))
