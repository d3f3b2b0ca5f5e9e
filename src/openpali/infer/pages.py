"""Reading a page in two passes: the finder says where lines are, the reader what they say.

Images are of any size: the finder sees tiles that overlap, the reader pieces of lines. Memory is that of one batch
of either, and of the cells of the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise, product
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PilImage
from torch import Tensor

from openpali.data.groups import connected
from openpali.data.pipeline.pages import MARGIN, WIDTHS, View, end_at, view_of_line
from openpali.infer.batches import chunked
from openpali.infer.ctc import Letter, read_columns
from openpali.infer.reading_order import reading_order
from openpali.infer.tiles import cells_of
from openpali.infer.upright import Turn, skew_of
from openpali.metrics.calibration import Calibration
from openpali.model.layers import device_of
from openpali.model.pages import CELL, PATCH, Finder, Reader
from openpali.tasks.example import Box, Image, Size, around
from openpali.text.language import SPACE, LanguageModel
from openpali.weights.ood import OodDetector, RunningFeatures, is_out

LINES = 16  # of a batch: more of them are slower on a core
_GAP = 0.6  # widest gap within a line, in heights of its box: training's columns are wider apart
_SAME = 0.5  # least IoU of the heights of two runs of cells that are one line
_LEAST = 4.0  # pixels; no line is lower
_REACH = 0.2  # heights by which text reaches beyond its outermost cells: the ends of slender letters
_TEXT = 0.5  # least probability of a cell with text
_ENDS = 0.3  # the same of a cell at either end of a line, where text begins or ends
_SUREST = 0.7  # least probability of the most probable cell of a line
_SURE = 0.05  # a line whose text has this probability is not seen in negative, too; most lines are long
_SPACE = 0.18  # heights of a box; what is narrower is the room between two letters
_CLEAR = 0.7  # least confidence of a line that surely is text: where nothing is written, lines are faint
_SHORTEST = 0.5  # heights; a shorter line counts as one of this length
_LEGIBLE = 0.5  # least legibility of a page that can be read, and is turned no further
_WHOLLY = 0.9  # least legibility of a page whose skew, if there is one, does no harm
_LIGHT = 128  # mean of the pixels of a line, 0..255, below which it is light on dark


class FoundLine(NamedTuple):
    """A line that was found, and the mean probability of its cells."""

    box: Box
    confidence: float


@dataclass(frozen=True)
class ReadWord:
    """A word of a page.

    Attributes:
        box: in pixels of the page.
        confidence: the product of the probabilities of its characters, in 0..1; or, if it is calibrated, the
            probability that it is right.
    """

    text: str
    box: Box
    confidence: float


@dataclass(frozen=True)
class ReadLine:
    """A line of a page; its words are in the order in which they are read.

    Attributes:
        block: number of the paragraph, column or table that it is in, from 0 on.
        row: number of its row on the page, from 0 on: the cells of a row of a table share it.
    """

    words: Sequence[ReadWord]
    box: Box
    block: int = 0
    row: int = 0

    @property
    def extent(self) -> Box:
        """The box of its words alone: that of a line may begin with an icon, or reach a little further."""
        return around(word.box for word in self.words)

    @property
    def confidence(self) -> float:
        """Of all its words together: the product of theirs."""
        return prod(word.confidence for word in self.words)

    @property
    def text(self) -> str:
        """The words, with a space between two."""
        return " ".join(word.text for word in self.words)

    @property
    def legibility(self) -> float:
        """The share of its characters that are in words of a confidence above .5; 0 without words."""
        lengths = [len(word.text) for word in self.words]
        sure = sum(length for length, word in zip(lengths, self.words, strict=True) if word.confidence > 0.5)
        return sure / max(1, sum(lengths))

    def within(self, size: Size) -> ReadLine:
        """The line with boxes that end where its page does: cells and the height of a line may reach beyond."""
        return self.moved(lambda box: box.within(size))

    def moved(self, to: Callable[[Box], Box]) -> ReadLine:
        """The line with its box and those of its words replaced."""
        words = [replace(word, box=to(word.box)) for word in self.words]
        return replace(self, words=words, box=to(self.box))

    def doubted(self, factor: float) -> ReadLine:
        """The line with the confidence of each word multiplied."""
        return replace(self, words=[replace(word, confidence=factor * word.confidence) for word in self.words])

    def calibrated(self, calibration: Calibration, least: float = 0.0) -> ReadLine | None:
        """The line with calibrated confidence, without words of less than ``least``; None if that leaves none."""
        sure = [replace(word, confidence=calibration.of(word.confidence)) for word in self.words]
        words = [word for word in sure if word.confidence >= least]
        return replace(self, words=words) if words else None


@dataclass(frozen=True)
class Reading:
    """What a page says.

    Attributes:
        lines: in reading order.
        ood_score: out-of-distribution score of the page, above 1 for one in a hundred pages of the training
            distribution; None without a detector.
        angle: at which its text runs, in counter-clockwise degrees above -180 up to 180; 90: from bottom to top.
        legibility: the share of the text that was read: see :attr:`ReadLine.legibility`.
    """

    lines: list[ReadLine]
    ood_score: float | None = None
    angle: float = 0.0
    legibility: float = 1.0

    @property
    def reason(self) -> str | None:
        """Why the page is out of distribution: "image", it is unlike pages and screens, or "text", its text cannot
        be read, such as that of another script; None: it is not, as far as is known."""
        if self.legibility < _LEGIBLE:
            return "text"
        return "image" if is_out(self.ood_score) else None

    @property
    def out_of_distribution(self) -> bool | None:
        """Whether the page is out of distribution, so that no word can be trusted; None: not known."""
        return bool(self.reason) if self.reason or self.ood_score is not None else None


def read_page(
    finder: Finder,
    reader: Reader,
    image: Image,
    language: LanguageModel | None = None,
    detector: OodDetector | None = None,
) -> Reading:
    """Read a page ``[H, W, 3]`` uint8; lines without a character are left out. Boxes end where the page does.

    A page that is skewed, or of which little can be read, is turned, too; the most legible turn is kept.
    """
    looks: list[Reading] = []

    def look(angle: float) -> float:
        turn = Turn(Size(*image.shape[:2]), 180 - (180 - angle) % 360)
        upright = turn.upright(image)
        seen = find_text(finder, upright)
        found = _in_order(seen.lines)
        read = read_lines(reader, upright, [line.box for line, _, _ in found], language)
        lines = [replace(line, block=b, row=r) for line, (_, b, r) in zip(read, found, strict=True) if line.words]
        size = Size(*upright.shape[:2])  # boxes are cut last: the reader sees what is around them
        placed = [line.within(size).moved(lambda box: turn.given(box, size)) for line in lines]
        score = None if detector is None else float(detector.score(seen.features[None]))
        clear = [line for line, (own, _, _) in zip(read, found, strict=True) if own.confidence >= _CLEAR]
        looks.append(Reading(placed, score, turn.angle, _legibility(clear)))
        return seen.skew

    def is_legible() -> bool:
        return max(reading.legibility for reading in looks) >= _LEGIBLE

    for side in (0.0, 90.0):
        skew = look(side)
        if skew and looks[-1].legibility < _WHOLLY:
            look(side + skew)
        if not is_legible():
            look(side + skew + 180)
        if is_legible():
            break
    best = max(looks, key=lambda reading: reading.legibility)
    return best if best.legibility >= _LEGIBLE else looks[0]


def _in_order(found: Sequence[FoundLine]) -> list[tuple[FoundLine, int, int]]:
    """Lines in reading order, with the numbers of their blocks and rows."""
    blocks = reading_order([line.box for line in found])
    rows = [(block, row) for block, some in enumerate(blocks) for row in some]
    return [(found[i], block, number) for number, (block, row) in enumerate(rows) for i in row]


def _legibility(lines: Sequence[ReadLine]) -> float:
    """The share of lines, by their length in heights, that was read; 1 of none."""
    lengths = [max(_SHORTEST, line.box.width / line.box.height) for line in lines]
    return float(np.average([line.legibility for line in lines], weights=lengths)) if lines else 1.0


# ---- the first pass


class FoundText(NamedTuple):
    """What the finder sees on a page: lines, its features for an OOD detector, float ``[2 D]``, and its skew, as
    of :func:`~openpali.infer.upright.skew_of`."""

    lines: list[FoundLine]
    features: Tensor
    skew: float = 0.0


def find_lines(finder: Finder, image: Image) -> list[FoundLine]:
    """Where the lines of an image ``[H, W, 3]`` uint8 are."""
    return find_text(finder, image).lines


@torch.inference_mode()
def find_text(finder: Finder, image: Image) -> FoundText:
    """The lines of an image ``[H, W, 3]`` uint8, and its features."""
    tokens = RunningFeatures()

    def say(tiles: Tensor, counts: Sequence[int]) -> Tensor:
        own, cells = finder.vit(tiles)
        tokens.add(own.cpu().flatten(1, 2), torch.tensor(counts))
        return torch.stack(list(finder.judge(own, cells)), 1)

    logits, up, down = cells_of(say, image, Size(*finder.vit.config.image_size), device_of(finder))
    text = logits.sigmoid().numpy()
    return FoundText(_lines(text, up.numpy(), down.numpy()), tokens.features, skew_of(text > _TEXT))


class _Run(NamedTuple):
    """Neighbouring cells of a row with text: columns ``first`` up to ``last``, and top and bottom of their line."""

    row: int
    first: int
    last: int
    top: float
    bottom: float


def _lines(probability: NDArray[np.float32], up: NDArray[np.float32], down: NDArray[np.float32]) -> list[FoundLine]:
    """Cells ``[h, w]`` to lines: runs that touch, or nearly so, and agree on the height of their line."""
    runs = [run for row in range(len(probability)) for run in _runs(row, probability[row], up[row], down[row])]
    groups = connected(len(runs), [*_joined(runs)])
    return [line for members in groups if (line := _line([runs[i] for i in members], probability))]


def _joined(runs: Sequence[_Run]) -> Iterator[tuple[int, int]]:
    """Pairs of runs of one line, by index: side by side with a narrow gap, or in touch with the row above."""
    rows: dict[int, list[int]] = {}
    for number, run in enumerate(runs):
        rows.setdefault(run.row, []).append(number)
    for row, now in rows.items():
        for left, right in pairwise(now):
            gap = (runs[right].first - runs[left].last) * CELL
            if gap <= _GAP * (runs[left].bottom - runs[left].top) and _agree(runs[left], runs[right]):
                yield left, right
        for above, below in product(rows.get(row - 1, ()), now):
            touch = runs[above].first < runs[below].last and runs[below].first < runs[above].last
            if touch and _agree(runs[above], runs[below]):
                yield above, below


def _line(runs: Sequence[_Run], probability: NDArray[np.float32]) -> FoundLine | None:
    """The line that runs make, if it is high enough and one of its cells is probable."""
    cells = [run.last - run.first for run in runs]
    top = float(np.average([run.top for run in runs], weights=cells))
    bottom = float(np.average([run.bottom for run in runs], weights=cells))
    reach = _REACH * (bottom - top)
    xmin = max(0.0, min(run.first for run in runs) * CELL - reach)
    xmax = min(float(probability.shape[1] * CELL), max(run.last for run in runs) * CELL + reach)
    sure = np.concatenate([probability[run.row, run.first : run.last] for run in runs])
    if bottom - top >= _LEAST and sure.max() >= _SUREST:
        return FoundLine(Box(top, xmin, bottom, xmax), float(sure.mean()))
    return None


def _runs(
    row: int, probability: NDArray[np.float32], up: NDArray[np.float32], down: NDArray[np.float32]
) -> Iterator[_Run]:
    """The runs of a row; each begins and ends with cells that are less probable (two thresholds, as Canny's)."""
    text = probability > _TEXT
    ends = (probability > _ENDS) & ~text
    edges = np.flatnonzero(np.diff(text.astype(np.int8), prepend=0, append=0))
    centre = row * CELL + CELL / 2
    for first, last in edges.reshape(-1, 2).tolist():
        top, bottom = centre - np.median(up[first:last]), centre + np.median(down[first:last])
        while first > 0 and ends[first - 1]:
            first -= 1
        while last < len(ends) and ends[last]:
            last += 1
        yield _Run(row, first, last, float(top), float(bottom))


def _agree(one: _Run, other: _Run) -> bool:
    both = min(one.bottom, other.bottom) - max(one.top, other.top)
    return both >= _SAME * (max(one.bottom, other.bottom) - min(one.top, other.top))


# ---- the second pass


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


@torch.inference_mode()
def read_lines(
    reader: Reader, image: Image, boxes: Sequence[Box], language: LanguageModel | None = None
) -> list[ReadLine]:
    """What lines of an image ``[H, W, 3]`` uint8 say, by their boxes; ``language`` decides where unclear."""
    page, device = PilImage.fromarray(image), device_of(reader)
    (height, widest), steps = reader.vit.config.image_size, reader.config.steps
    pieces = [piece for i, box in enumerate(boxes) for piece in _pieces(page, i, box, height, widest)]
    words: list[list[ReadWord]] = [[] for _ in boxes]
    said: dict[int, list[ReadWord]] = {}
    order = sorted(range(len(pieces)), key=lambda i: pieces[i].columns)  # lines of like width share a batch
    for some in chunked(order, LINES):
        wide = -(-max(pieces[i].columns for i in some) * PATCH // WIDTHS) * WIDTHS
        batch = np.zeros((len(some), height, min(wide, widest), 3), np.uint8)
        for row, i in zip(batch, some, strict=True):
            own = pieces[i].columns * PATCH
            row[:, :own] = end_at(pieces[i].view.of(page, height, own), pieces[i].shown)
        columns = torch.tensor([pieces[i].columns for i in some], device=device)
        probabilities = _look_twice(reader, torch.from_numpy(batch).to(device), columns)
        for i, row in zip(some, probabilities.cpu().numpy(), strict=True):
            letters = read_columns(row[: pieces[i].columns * steps], language)
            box = boxes[pieces[i].line]
            said[i] = list(_words(letters, PATCH // steps, reader.config.characters, pieces[i].view, box))
    for i, piece in enumerate(pieces):
        line = words[piece.line]
        if piece.goes_on and line and said[i]:
            said[i][0] = _one_word(line.pop(), said[i][0])
        line += said[i]
    return [ReadLine(own, around([box, *(w.box for w in own)])) for own, box in zip(words, boxes, strict=True)]


def _look_twice(reader: Reader, images_BHWC: Tensor, columns_B: Tensor) -> Tensor:
    """Probabilities of characters at each step of lines, ``[B, S, characters + 1]``.

    Lines that are light on dark and not surely read are seen in negative, too, and both looks averaged: most lines
    that a reader learns from are dark on light.
    """
    first_BSC: Tensor = reader(images_BHWC, columns_B).softmax(-1)
    own_BS = torch.arange(first_BSC.shape[1], device=columns_B.device) < columns_B[:, None] * reader.config.steps
    sure_B = first_BSC.amax(-1).log().where(own_BS, 0).sum(1).exp()  # the probability of the most probable path
    own_BW = torch.arange(images_BHWC.shape[2], device=columns_B.device) < columns_B[:, None] * PATCH
    light_B = (images_BHWC.float().mean((1, 3)) * own_BW).sum(1) / own_BW.sum(1)
    again = ((sure_B < _SURE) & (light_B < _LIGHT)).nonzero()[:, 0]
    if len(again):
        second_BSC = reader(255 - images_BHWC[again], columns_B[again]).softmax(-1)
        first_BSC[again] = (first_BSC[again] + second_BSC) / 2
    return first_BSC


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
