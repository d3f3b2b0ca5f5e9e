"""How well the elements of screens are found."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from openpali.data.pipeline.elements import elements_of
from openpali.distributed import ALONE, Ranks
from openpali.eval.benchmark import AnswerPage
from openpali.eval.pages import PageEvaluator, Pages
from openpali.infer.elements import find_elements
from openpali.infer.pali import Pali
from openpali.metrics.boxes import Detection, detection_f1
from openpali.model.elements import ElementFinder
from openpali.tasks.example import Example, Object


class ElementEvaluator(PageEvaluator):
    """Precision, recall and F1 of elements by role at an IoU of .5, over all windows together. Where lines of text
    are is known."""

    def run(self, finder: ElementFinder, ranks: Ranks = ALONE) -> Pages:
        """Evaluate. Collective: call it on every rank."""
        pages = self._each(ranks, partial(self._page, finder))
        return Pages(detection_f1([found for found, _ in pages], [true for _, true in pages]), self.n)

    def _page(self, finder: ElementFinder, example: Example) -> tuple[list[Detection], list[Detection]]:
        lines = [line.box for line in example.lines]
        return _by_role(find_elements(finder, example.images[0], lines)), _by_role(elements_of(example))


def elements_by(pali: Pali) -> AnswerPage:
    """The elements of screens, named by their roles."""
    return lambda example: (_by_role(pali.screen(example.images[0]).elements), _by_role(elements_of(example)))


def _by_role(elements: Sequence[Object]) -> list[Detection]:
    return [Detection(thing.role, thing.box, thing.confidence or 0.0) for thing in elements]
