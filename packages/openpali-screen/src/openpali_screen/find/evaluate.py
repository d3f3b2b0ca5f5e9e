"""How well lines of pages are found.

What a finder finds in ``ignored`` places counts neither for nor against it.
"""

from __future__ import annotations

from functools import partial

from openpali.distributed import ALONE, Ranks
from openpali.eval.evaluators import Measured
from openpali.eval.pages import PageEvaluator
from openpali.metrics.boxes import Detection, box_overlap, detection_f1
from openpali.tasks.example import Example
from openpali_screen.find.network import Finder, finder_of
from openpali_screen.find.predict import find_text
from openpali_screen.geometry import Box
from openpali_screen.networks import FinderNetwork

_OPEN = 0.5  # a box with this share of its area in ignored places is not scored


class FindingEvaluator(PageEvaluator):
    """Precision, recall and F1 of lines at an IoU of .5 (H-mean), over all pages together."""

    def run(self, finder: Finder, ranks: Ranks = ALONE) -> Measured:
        """Evaluate. Collective: call it on every rank."""
        pages = self.each(ranks, partial(self._page, finder_of(finder)))
        return Measured(detection_f1([found for found, _ in pages], [true for _, true in pages]), self.n)

    def _page(self, finder: FinderNetwork, example: Example) -> tuple[list[Detection], list[Detection]]:
        known = [line for line in find_text(finder, example.images[0]).lines if not _is_open(line.box, example)]
        found = [Detection("line", line.box, line.confidence) for line in known]
        return found, [Detection("line", line.box) for line in example.lines]


def _is_open(box: Box, example: Example) -> bool:
    """Whether a box is in an ignored place, and in no line."""
    ignored = box_overlap([box], example.ignored).max(initial=0.0)
    known = box_overlap([box], [line.box for line in example.lines]).max(initial=0.0)
    return bool(ignored >= _OPEN * box.height * box.width and known < ignored)
