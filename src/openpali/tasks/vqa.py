"""Question answering over images and videos, question generation, classification (PaLI-3 sections 3.1 and 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from openpali.metrics.scores import Scores
from openpali.tasks import scoring
from openpali.tasks.base import Sample, Task, choose, require
from openpali.tasks.example import Example
from openpali.tasks.scoring import Answered


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
        answers = require(example.answers, example, "answers")
        if self.ocr:
            question = f"{question} {self.wording.ocr.format(text=example.text)}".strip()
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
        answer = choose(require(example.answers, example, "answers"), rng)
        return Sample(self.ask(answer, lang=example.lang), question, (question,), kind=example.lang)

    @classmethod
    def score(cls, rows: Sequence[Answered]) -> Scores:
        """CIDEr, BLEU-1..4, ROUGE-L and exact match."""
        return scoring.captions(rows)


@dataclass(frozen=True)
class Classify(Task):
    """Name the class of the image.

    Attributes:
        question: the question; a data set whose labels are not things ("style of painting") needs a different one.
    """

    name: ClassVar[str] = "classify"
    form: ClassVar[str] = "vqa"
    takes: ClassVar[str] = "question"

    question: str = "what is this?"

    def write(self, example: Example, rng: np.random.Generator) -> Sample:
        label = require(example.label, example, "label")
        return Sample(self.ask(), label, (label,))

    def ask(self, text: str = "", *, lang: str = "en") -> str:
        """``text`` replaces the task's question."""
        return super().ask(text.strip() or self.question, lang=lang)
