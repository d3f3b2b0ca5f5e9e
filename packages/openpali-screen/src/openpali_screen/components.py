"""What a bundle asks of its parts that read screens: text, elements, and how many of them there are."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from statistics import mean

import torch
from torch import Tensor

from openpali.infer.components import ALONE, FIRST, LAST, Component, Question
from openpali.infer.pipeline import Prediction, Row
from openpali.tasks.base import Answer
from openpali.tasks.detect import NOTHING, Detect, alike
from openpali.tasks.example import Box, Image, Object
from openpali.tasks.ocr import Ocr
from openpali.tasks.refseg import RefSeg
from openpali.tasks.vqa import Vqa
from openpali_screen.bundles import reader_of_bundle
from openpali_screen.elements.encode import ROLES
from openpali_screen.elements.predict import Element
from openpali_screen.expressions import ElementQuery
from openpali_screen.forms import answer_about, counted_roles
from openpali_screen.parts import ELEMENTS, FINDER, READER
from openpali_screen.reader import ScreenReader

LINE = 72  # pixels; an image that is no higher is read as one line
SCREEN = 256  # pixels; no side of a screen is shorter

_KINDS = frozenset(ROLES) - {"image"}
"""Roles that only elements of screens have: an image may show anything."""


class Screens(Component):
    """What the parts share: the reader of a bundle, and what it answers."""

    looks_for = "text on a screen that says so"

    @cached_property
    def reader(self) -> ScreenReader:
        """Reads screens; the same for all parts of a bundle."""
        return reader_of_bundle(self.bundle)

    def answer(self, row: Row) -> Prediction:
        [pixels] = row.images
        task = row.task
        if isinstance(task, Detect):
            screen = self.reader.screen(pixels)
            score = screen.ood_score
            objects = [_object(e, e.name) for name in task.names_in(row.prompt) for e in screen.detect(name)]
            answer = task.answer(objects, row.size)
        elif isinstance(task, RefSeg):  # an element fills its box: there is no other outline
            screen, asked = self.reader.screen(pixels), task.asked(row.prompt)
            score, found = screen.ood_score, screen.point(asked)
            answer = Answer(NOTHING)
            if found:
                thing = _object(found, asked)
                text = task.codec.encode(task.codec.widened(thing.box, row.size), row.size)
                answer = Answer(text, (thing,))
        elif isinstance(task, Vqa) and self.part == ELEMENTS:
            screen = self.reader.screen(pixels)
            score = screen.ood_score
            text, confidence = answer_about(screen, task.asked(row.prompt)) or ("", 0.0)
            answer = Answer(text, confidence=confidence)
        else:
            if row.size.height <= LINE:
                lines, score = self.reader.line(pixels), None
            else:
                page = self.reader.page(pixels)
                lines, score = page.lines, page.ood_score
            confidences = [word.confidence for line in lines for word in line.words]
            text = "\n".join(line.text for line in lines)
            answer = Answer(text, confidence=mean(confidences) if confidences else 0.0)
        return self.predicted(row, answer, score)

    def asks_for_elements(self, question: Question) -> bool:
        """Whether a prompt is for the elements of a screen.

        It asks for roles ("the heart icon"), how many there are, or to detect none of the objects that the bundle
        lists. Without a part that finds elements, words that are written on the screen will do, but not roles.
        """
        bundle, task, prompt = self.bundle, question.task, question.prompt
        if task not in (Detect.name, RefSeg.name, Vqa.name) or (len(question.images) != 1 and task != Detect.name):
            return False
        finds, dialect = ELEMENTS in bundle.parts, bundle.dialect
        if READER not in bundle.parts:
            return False
        if task == RefSeg.name:
            return finds and bool(_kinds(RefSeg(dialect=dialect).asked(prompt)))
        if task == Vqa.name:
            return finds and bool(_KINDS.intersection(counted_roles(Vqa(dialect=dialect).asked(prompt))))
        names = Detect(dialect=dialect).names_in(prompt)
        if not bundle.names:
            return finds and bool(names) and all(ElementQuery.of(name).roles for name in names)
        if not finds and not all(ElementQuery.of(name).words for name in names):
            return False
        # Of a known name, roles that are no part of it: "heart icon", not "gift box".
        known = [(name, own) for name in names for own in bundle.names if alike(name, own)]
        return all(finds and _kinds(name) - _kinds(own) for name, own in known)


class FinderComponent(Screens):
    """Describes pages for a detector of what is none."""

    def features(self, image: Image) -> Tensor:
        return torch.from_numpy(self.reader.features(image))


class ReaderComponent(Screens):
    """Reads lines and pages; without a part that finds elements, it finds words on screens."""

    def can(self, question: Question) -> float:
        if ELEMENTS not in self.bundle.parts and self.asks_for_elements(question):
            return ALONE
        if question.task != Ocr.name or len(question.images) != 1:
            return 0.0
        return FIRST if question.images[0].size.height <= LINE else LAST

    @classmethod
    def abilities(cls, parts: Collection[str]) -> dict[str, bool]:
        return {"reads_pages": {FINDER, READER} <= {*parts}}


class ElementsComponent(Screens):
    """Finds elements, counts them, and says what fields and tables say."""

    def can(self, question: Question) -> float:
        if self.asks_for_elements(question):
            return ALONE
        if question.task != Vqa.name or len(question.images) != 1:
            return 0.0
        return LAST if min(question.images[0].size) >= SCREEN else 0.0

    def knows(self, name: str) -> bool:
        return bool(ElementQuery.of(name).roles)


def _object(element: Element, name: str) -> Object:
    """An element as an answer, by the name that was asked for."""
    box, label = Box(*element.box), element.label or element.name
    return Object(name, box, confidence=element.confidence, role=element.role, label=label)


def _kinds(text: str) -> frozenset[str]:
    """The roles of elements that an expression names."""
    return _KINDS.intersection(ElementQuery.of(text).roles)
