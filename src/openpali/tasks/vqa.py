"""Question answering over pictures and videos, question generation, classification (PaLI-3 sections 3.1 and 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from openpali.tasks.base import Sample, Task, choose, require, require_text
from openpali.tasks.example import Example


def answer_prompt(question: str, lang: str) -> str:
    """The prompt of every question."""
    return f"Answer in {lang}: {question} <extra_id_0>"


@dataclass(frozen=True)
class Vqa(Task):
    """Answer a question about the picture, in a language.

    Attributes:
        ocr: whether the text that an OCR engine found (the example's ``text``) follows the question; the paper
            reports both ways (section 4.1) but not the form, so we put "OCR: " before it.
    """

    name: ClassVar[str] = "vqa"
    metric: ClassVar[str] = "vqa_accuracy"

    ocr: bool = False

    def write(self, example: Example, rng: np.random.Generator) -> Sample:
        question = require(example.question.strip(), example, "question")
        answers = require(example.answers, example, "answers")
        if self.ocr:
            question = f"{question} OCR: {example.text}".strip()
        return Sample(
            answer_prompt(question, example.lang), choose(answers, rng), answers, kind=example.question_kind
        )

    def ask(self, text: str = "", *, lang: str = "en") -> str:
        """``text`` is the question; ``lang`` is the language of the answer."""
        return answer_prompt(require_text(text, self, "a question"), lang)


@dataclass(frozen=True)
class VideoQa(Vqa):
    """Answer a question about a video, given as frames; same prompt as for a picture."""

    name: ClassVar[str] = "video_qa"
    metric: ClassVar[str] = "exact_match"


@dataclass(frozen=True)
class QuestionGeneration(Task):
    """Ask the question whose answer is given."""

    name: ClassVar[str] = "question_generation"
    metric: ClassVar[str] = "cider"

    def write(self, example: Example, rng: np.random.Generator) -> Sample:
        question = require(example.question.strip(), example, "question")
        answer = choose(require(example.answers, example, "answers"), rng)
        return Sample(self.ask(answer, lang=example.lang), question, (question,), kind=example.lang)

    def ask(self, text: str = "", *, lang: str = "en") -> str:
        """``text`` is the answer; ``lang`` is the language of the question."""
        return f"Generate a question in {lang} for {require_text(text, self, 'an answer')}: <extra_id_0>"


@dataclass(frozen=True)
class Classify(Task):
    """Name the class of the picture.

    Attributes:
        question: what is asked; a data set whose labels are no things ("style of painting") needs its own.
    """

    name: ClassVar[str] = "classify"
    metric: ClassVar[str] = "exact_match"

    question: str = "what is this?"

    def write(self, example: Example, rng: np.random.Generator) -> Sample:
        label = require(example.label, example, "label")
        return Sample(self.ask(), label, (label,))

    def ask(self, text: str = "", *, lang: str = "en") -> str:
        """``text`` replaces the task's question."""
        return answer_prompt(text.strip() or self.question, lang)
