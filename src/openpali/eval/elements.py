"""How well the elements of screens are found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

from openpali.data.pipeline.elements import elements_of
from openpali.distributed import Ranks
from openpali.eval.benchmark import AnswerPage
from openpali.eval.evaluators import ALONE
from openpali.eval.pages import PageEvaluator, Pages
from openpali.infer.elements import find_elements
from openpali.infer.pali import Pali
from openpali.metrics.boxes import Detection, detection_f1
from openpali.model.elements import ElementFinder
from openpali.tasks.example import Example, Object

_SPOKEN = {
    **{role: role for role in ("button", "checkbox", "heading", "link", "slider", "switch", "tab")},
    "columnheader": "column",
    "combobox": "dropdown",
    "radio": "radiobutton",
    "textbox": "field",
}
"""What people call the roles of elements that have names."""
_LONGEST = 40  # characters of a name


class ElementEvaluator(PageEvaluator):
    """Precision, recall and F1 of elements by role at an IoU of .5, over all windows together."""

    def run(self, finder: ElementFinder, ranks: Ranks = ALONE) -> Pages:
        """Evaluate. Collective: call it on every rank."""
        pages = self._each(ranks, partial(self._page, finder))
        return Pages(detection_f1([found for found, _ in pages], [true for _, true in pages]), self.n)

    def _page(self, finder: ElementFinder, example: Example) -> tuple[list[Detection], list[Detection]]:
        return _by_role(find_elements(finder, example.images[0])), _by_role(elements_of(example))


def elements_by(pali: Pali) -> AnswerPage:
    """The elements of screens, named by their roles."""
    return lambda example: (_by_role(pali.screen(example.images[0]).elements), _by_role(elements_of(example)))


def points_by(pali: Pali) -> AnswerPage:
    """What expressions mean, named by them: the accessible name and the role of elements that are alone in both."""

    def answer(example: Example) -> tuple[list[Detection], list[Detection]]:
        screen, true = pali.screen(example.images[0]), list(_expressions(example))
        found = [(each.name, screen.point(each.name)) for each in true]
        return [Detection(name, thing.box) for name, thing in found if thing], true

    return answer


def _expressions(example: Example) -> Iterator[Detection]:
    known = [thing for thing in elements_of(example) if thing.role in _SPOKEN and _is_said(thing)]
    texts = [f"{thing.name} {_SPOKEN[thing.role]}" for thing in known]
    counts = Counter(map(str.casefold, texts))
    for text, thing in zip(texts, known, strict=True):
        if counts[text.casefold()] == 1:
            yield Detection(text, thing.box)


def _is_said(thing: Object) -> bool:
    """Whether people would say its name: it has one, and it is short."""
    return thing.name != thing.role and len(thing.name) <= _LONGEST and any(map(str.isalnum, thing.name))


def _by_role(elements: Sequence[Object]) -> list[Detection]:
    return [Detection(thing.role, thing.box, thing.confidence or 0.0) for thing in elements]
