"""How well lines of pages are read where they are, and how well whole pages are read."""

from __future__ import annotations

from functools import partial

from openpali.distributed import ALONE, Ranks
from openpali.eval.evaluators import Measured
from openpali.eval.pages import PageEvaluator
from openpali.metrics.ocr import ocr
from openpali.tasks.example import Example
from openpali.text.characters import numbers_of, plain
from openpali_screen.geometry import Box
from openpali_screen.networks import ReaderNetwork
from openpali_screen.read.network import Reader, reader_of
from openpali_screen.read.predict import read_lines


class ReadingEvaluator(PageEvaluator):
    """Error rates of the lines of pages that a reader could write, read where they truly are."""

    def run(self, reader: Reader, ranks: Ranks = ALONE) -> Measured:
        """Evaluate. Collective: call it on every rank."""
        lines = [line for page in self.each(ranks, partial(self._page, reader_of(reader))) for line in page]
        return Measured(ocr([read for read, _ in lines], [true for _, true in lines]), self.n)

    def _page(self, reader: ReaderNetwork, example: Example) -> list[tuple[str, str]]:
        lines = [line for line in example.lines if line.readable and numbers_of(line.text, reader.characters)]
        read = read_lines(reader, example.images[0], [Box(*line.box) for line in lines])
        return [(found.text, plain(line.text)) for found, line in zip(read, lines, strict=True)]
