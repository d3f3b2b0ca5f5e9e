"""How well lines of pages are found, read where they are, and how well whole pages are read.

What a finder finds in ``ignored`` places counts neither for nor against it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from openpali.data.media.images import image_hash
from openpali.data.sources.base import Source
from openpali.distributed import ALONE, Ranks
from openpali.eval.benchmark import AnswerPage
from openpali.eval.evaluators import Watch, count, gather, unwatched
from openpali.infer.pages import ReadWord, find_lines, read_lines
from openpali.metrics.boxes import Detection, box_overlap, detection_f1
from openpali.metrics.ocr import ocr
from openpali.metrics.scores import Scores
from openpali.metrics.words import holds_centre
from openpali.model.pages import Finder, Reader
from openpali.tasks.example import Box, Example, Image
from openpali.text.characters import numbers_of, plain

T = TypeVar("T")

_OPEN = 0.5  # a box with this share of its area in ignored places is not scored


@dataclass(frozen=True)
class Pages:
    """Scores of ``n`` pages."""

    scores: Scores
    n: int


@dataclass(frozen=True)
class PageEvaluator:
    """What the evaluators of pages have in common.

    Attributes:
        name: of the scores in logs.
        source: pages with ``lines`` and ``ignored``.
        limit: evaluate only the first ``limit`` pages.
    """

    name: str
    source: Source
    limit: int | None = None

    @property
    def n(self) -> int:
        """How many pages are evaluated."""
        return count(self.source, self.limit)

    def _each(self, ranks: Ranks, page: Callable[[Example], T]) -> list[T]:
        """``page`` of every page, of which each rank takes a share. Collective."""
        mine = range(ranks.rank, self.n, ranks.world)
        shares = gather(ranks, lambda: [page(self.source[i]) for i in mine])
        return [shares[i % ranks.world][i // ranks.world] for i in range(self.n)]


class FindingEvaluator(PageEvaluator):
    """Precision, recall and F1 of lines at an IoU of .5 (H-mean), over all pages together."""

    def run(self, finder: Finder, ranks: Ranks = ALONE) -> Pages:
        """Evaluate. Collective: call it on every rank."""
        pages = self._each(ranks, partial(self._page, finder))
        return Pages(detection_f1([found for found, _ in pages], [true for _, true in pages]), self.n)

    def _page(self, finder: Finder, example: Example) -> tuple[list[Detection], list[Detection]]:
        known = [line for line in find_lines(finder, example.images[0]) if not _is_open(line.box, example)]
        found = [Detection("line", line.box, line.confidence) for line in known]
        return found, [Detection("line", line.box) for line in example.lines]


def _is_open(box: Box, example: Example) -> bool:
    """Whether a box is in an ignored place, and in no line."""
    ignored = box_overlap([box], example.ignored).max(initial=0.0)
    known = box_overlap([box], [line.box for line in example.lines]).max(initial=0.0)
    return bool(ignored >= _OPEN * box.area and known < ignored)


class ReadingEvaluator(PageEvaluator):
    """Error rates of the lines of pages that a reader could write, read where they truly are."""

    def run(self, reader: Reader, ranks: Ranks = ALONE) -> Pages:
        """Evaluate. Collective: call it on every rank."""
        lines = [line for page in self._each(ranks, partial(self._page, reader)) for line in page]
        return Pages(ocr([read for read, _ in lines], [true for _, true in lines]), self.n)

    def _page(self, reader: Reader, example: Example) -> list[tuple[str, str]]:
        lines = [line for line in example.lines if line.readable and numbers_of(line.text)]
        read = read_lines(reader, example.images[0], [line.box for line in lines])
        return [(found.text, plain(line.text)) for found, line in zip(read, lines, strict=True)]


@dataclass(frozen=True)
class PageAnswers:
    """What was found on a page, and what is there.

    Attributes:
        key: of the page.
        pixels: hash of its image.
    """

    key: str
    pixels: str
    found: list[Detection]
    true: list[Detection]


@dataclass(frozen=True)
class WholePageEvaluator(PageEvaluator):
    """What is found on whole pages, beside what is there.

    Attributes:
        watch: called on rank 0 whenever a page is done.
    """

    watch: Watch = unwatched

    def run(self, answer: AnswerPage, ranks: Ranks = ALONE) -> list[PageAnswers]:
        """Ask about every page. Collective: call it on every rank."""
        done = 0

        def page(example: Example) -> PageAnswers:
            nonlocal done
            found, true = answer(example)
            done += 1
            if ranks.rank == 0:
                self.watch(min(done * ranks.world, self.n), self.n, {})
            return PageAnswers(example.key, image_hash(example.images[0]), found, true)

        return self._each(ranks, page)


def words_by(read: Callable[[Image], Iterable[ReadWord]]) -> AnswerPage:
    """The words of pages that count: they have a letter or a digit, and truth says what is where they are.

    Args:
        read: an image ``[H, W, 3]`` uint8 -> its words; of a model, or of any other engine. Texts become what
            :func:`~openpali.text.characters.plain` makes of them.
    """
    return lambda example: counted_words(example, read(example.images[0]))


def counted_words(example: Example, words: Iterable[ReadWord]) -> tuple[list[Detection], list[Detection]]:
    """Words that were read on a page and its true words, those that count: see :func:`words_by`."""
    true = [Detection(plain(word.text), word.box) for line in example.lines if line.readable for word in line.words]
    unknown = [*example.ignored, *(line.box for line in example.lines if not line.readable)]
    found = [
        Detection(plain(word.text), word.box, word.confidence)
        for word in words
        if not any(holds_centre(box, word.box) for box in unknown)
        or any(holds_centre(word.box, other.box) for other in true)
    ]
    read, there = ([word for word in side if any(map(str.isalnum, word.name))] for side in (found, true))
    return read, there
