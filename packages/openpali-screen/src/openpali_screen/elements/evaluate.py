"""How well the elements of screens are found."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from openpali.distributed import ALONE, Ranks
from openpali.eval.evaluators import Measured
from openpali.eval.pages import PageEvaluator
from openpali.metrics.boxes import Detection, detection_f1
from openpali.tasks.example import Example, Object
from openpali_screen.elements.encode import elements_of
from openpali_screen.elements.network import ElementFinder
from openpali_screen.elements.network import elements_of as network_of
from openpali_screen.elements.predict import Element, find_elements
from openpali_screen.networks import ElementNetwork


class ElementEvaluator(PageEvaluator):
    """Precision, recall and F1 of elements by role at an IoU of .5, over all windows together. Where lines of text
    are is known."""

    def run(self, finder: ElementFinder, ranks: Ranks = ALONE) -> Measured:
        """Evaluate. Collective: call it on every rank."""
        pages = self.each(ranks, partial(self._page, network_of(finder)))
        return Measured(detection_f1([found for found, _ in pages], [true for _, true in pages]), self.n)

    def _page(self, finder: ElementNetwork, example: Example) -> tuple[list[Detection], list[Detection]]:
        lines = [line.box for line in example.lines]
        return by_role(find_elements(finder, example.images[0], lines)), by_role(elements_of(example))


def by_role(elements: Sequence[Element | Object]) -> list[Detection]:
    return [Detection(thing.role, thing.box, thing.confidence or 0.0) for thing in elements]
