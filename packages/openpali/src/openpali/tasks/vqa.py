"""Question answering over images and videos, question generation, classification (PaLI-3 sections 3.1 and 4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from openpali.tasks import scoring
from openpali.tasks.base import Sample, Task, choose, filled, require
from openpali.tasks.example import Example


@dataclass(frozen=True)
class Vqa(Task):
    """Answer a question about the image, in a language.

    Attributes:
        ocr: whether the text that an OCR engine found (the example's ``text``) follows the question. The paper
            reports results with and without it (section 4.1) but not the format, so we put "OCR: " before it.
    """

    name: ClassVar[str] = "vqa"
    form: ClassVar[str] = "vqa"
    takes: ClassVar[str] = "question"

    ocr: bool = False

    def write(self, example: Example, rng: np.random.Generator) -> Sample:
        question = require(example.question.strip(), example, "question")
        answers = require(filled(example.answers), example, "answers")
        if self.ocr:
            question = f"{question} {self.dialect.ocr.format(text=example.text)}".strip()
        prompt = self.template.render(question, lang=example.lang)
        return Sample(prompt, choose(answers, rng), answers, kind=example.question_kind)


@dataclass(frozen=True)
class VideoQa(Vqa):
    """Answer a question about a video, given as frames; same prompt as for an image."""

    name: ClassVar[str] = "video_qa"
    video: ClassVar[bool] = True


@dataclass(frozen=True)
class QuestionGeneration(Task):
    """Ask the question whose answer is given, in a language."""

    name: ClassVar[str] = "question_generation"
    takes: ClassVar[str] = "answer"
    metric: ClassVar[str] = "cider"

    def write(self, example: Example, rng: np.random.Generator) -> Sample:
        question = require(example.question.strip(), example, "question")
        answer = choose(require(filled(example.answers), example, "answers"), rng)
        return Sample(self.ask(answer, lang=example.lang), question, (question,), kind=example.lang)

    score = staticmethod(scoring.captions)


@dataclass(frozen=True)
class Classify(Task):
    """Name the class of the image.

    Attributes:
        question: the question; a data set whose labels are not things ("style of painting") needs a different one.
        of: what names the class: the image's own label ("image"), or its largest object ("object").
        label: the class of every image, instead: for images without a label, such as those of text.
        groups: coarser class -> the names that belong to it; other names are classes of their own.
        labels: all classes, to which answers are limited; by default a recipe's are those of its source, and
            elsewhere an answer may be any text.
    """

    name: ClassVar[str] = "classify"
    form: ClassVar[str] = "vqa"
    takes: ClassVar[str] = "question"

    question: str = "what is this?"
    of: Literal["image", "object"] = "image"
    label: str = ""
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)
    labels: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.of not in ("image", "object"):
            raise ValueError(f'classify has no of = {self.of!r}: choose "image" or "object"')
        if not isinstance(self.groups, Mapping) or any(isinstance(names, str) for names in self.groups.values()):
            raise ValueError(f"classify has groups = {self.groups!r}: give a table of lists of names")
        counts = Counter(name for names in self.groups.values() for name in names)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise ValueError(f"classify: groups name {twice[0]!r} twice: leave it in one place")

    @property
    def answer_set(self) -> Sequence[str]:
        return self.labels

    def write(self, example: Example, rng: np.random.Generator) -> Sample:
        label = self.label or self.group_of(self._name(example))
        return Sample(self.ask(), label, (label,))

    def group_of(self, name: str) -> str:
        """The class of what is called ``name``, as targets spell it: without outer white space."""
        return next((group for group, names in self.groups.items() if name in names), name).strip()

    def _name(self, example: Example) -> str:
        if self.of == "image":
            return require(example.label, example, "label")
        return max(require(example.objects, example, "objects"), key=lambda thing: thing.box.area).name

    def ask(self, text: str = "", *, lang: str = "en") -> str:
        """``text`` replaces the task's question."""
        return super().ask(text.strip() or self.question, lang=lang)
