"""The components of a bundle: what each can answer, and how.

An extension names its own by the part of a bundle that each is made of
(:attr:`openpali.extensions.Extension.components`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from torch import Tensor

from openpali.extensions import loaded
from openpali.infer.bundle import Bundle
from openpali.infer.generate import Decoding, Generation
from openpali.infer.patch_detector import PatchDetector
from openpali.infer.pipeline import Pipeline, Prediction, Row, Sized
from openpali.tasks.base import Answer, Task
from openpali.tasks.detect import Detect
from openpali.tasks.example import Image, Size
from openpali.weights.files import ABOUT, SIGLIP

ALONE, FIRST, LAST = 1.0, 0.9, 0.1
"""Scores of :meth:`Component.can`: no other is asked; asked before, or after, those with a decoder."""
DECODER = 0.5
"""Least score of a component with a decoder that does not squash the image; it is below :data:`FIRST`."""
SQUASHED = 2.0
"""Most that a component with a decoder may squash an image to be asked, if another squashes it less."""


@dataclass(frozen=True)
class Question:
    """What a bundle is asked."""

    task: str  # name of the task that reads the answer
    prompt: str
    images: Sequence[Sized]  # in full size; one, the frames of a video, or none for text alone


class Component:
    """A part of a bundle that answers.

    Args:
        part: its name in the bundle.
        bundle: whose models it uses.

    Attributes:
        decodes: whether it generates text; those that do not answer about one image, in full size.
        looks_for: what it takes names for that the bundle does not list, for a message.
    """

    decodes = False
    looks_for = ""

    def __init__(self, part: str, bundle: Bundle) -> None:
        self.part, self.bundle = part, bundle

    def can(self, question: Question) -> float:
        """How well it answers, from 0, not at all, to :data:`ALONE`. Below that it is asked if the bundle lists it
        for the task, in the order of the scores (:meth:`openpali.infer.pali.Pali.route`)."""
        return 0.0

    def row(self, question: Question, task: Task) -> Row:
        """A question as it is read.

        Raises:
            ValueError: it cannot be answered.
        """
        if len(question.images) != 1:
            raise ValueError(f"part {self.part} answers about one image, and was given {len(question.images)}")
        [image] = question.images
        return Row(question.prompt, (), [image.pixels], image.size, task)

    def answer(self, row: Row) -> Prediction:
        """The answer to a row, of a component without a decoder."""
        raise ValueError(f"{type(self).__name__} answers no prompts")

    def answers(self, rows: Sequence[Row], decoding: Decoding | None) -> list[Prediction]:
        """The answers to rows, which do not depend on each other."""
        return [self.answer(row) for row in rows]

    def predicted(self, row: Row, answer: Answer, ood_score: float | None = None) -> Prediction:
        """An answer for which no tokens were generated."""
        return Prediction(row.prompt, answer, Generation([], [], 0.0, "eos"), ood_score, self.part)

    def knows(self, name: str) -> bool:
        """Whether a name that the bundle does not list means something to it."""
        return False

    @classmethod
    def abilities(cls, parts: Collection[str]) -> Mapping[str, bool]:
        """What a server says that a bundle of these parts can do, or cannot, by name."""
        return {}

    def features(self, image: Image) -> Tensor:
        """Features of an image ``[H, W, 3]`` for an out-of-distribution detector, float ``[D]``."""
        raise ValueError(f"{type(self).__name__} has no features for an out-of-distribution detector")


class Decoder(Component):
    """Generates text from images and prompts."""

    decodes = True

    @property
    def pipeline(self) -> Pipeline:
        return self.bundle.pipeline(self.part)

    def can(self, question: Question) -> float:
        """The higher, the nearer the proportions of its own images are."""
        preprocess = self.bundle.part(self.part).preprocess
        if preprocess is None or not question.images:
            return DECODER
        mismatch = preprocess.mismatch(question.images[0].size)
        squashes = preprocess.policy == "squash" and mismatch > SQUASHED
        return (LAST if squashes else DECODER) + 0.3 / mismatch

    def row(self, question: Question, task: Task) -> Row:
        return self.pipeline.row(question.images, question.prompt, task)

    def answers(self, rows: Sequence[Row], decoding: Decoding | None) -> list[Prediction]:
        return self.pipeline.answer(rows, decoding)


class ImageEncoder(Component):
    """Detects by the patches of the image encoder."""

    @cached_property
    def detector(self) -> PatchDetector:
        calibration = self.bundle.calibration(self.part, Detect.name)
        return PatchDetector(self.bundle.embedding, self.bundle.names, calibration)

    def can(self, question: Question) -> float:
        return LAST if question.task == Detect.name and self._names(question.prompt) else 0.0

    def row(self, question: Question, task: Task) -> Row:
        if question.task != Detect.name:
            raise ValueError(f"the image encoder alone detects things: it does not answer task {question.task}")
        if not self._names(question.prompt):  # such as <OD>, for all there is
            raise ValueError(
                f"the image encoder alone looks for names, and {question.prompt!r} has none: ask for some"
            )
        return super().row(question, task)

    def answer(self, row: Row) -> Prediction:
        [pixels], task = row.images, row.task
        assert isinstance(task, Detect)
        objects = self.detector.detect(Sized(pixels, row.size), task.names_in(row.prompt))
        return self.predicted(row, task.answer(objects, row.size))

    def _names(self, prompt: str) -> Sequence[str]:
        return Detect(dialect=self.bundle.dialect).names_in(prompt)


class Help(Component):
    """Says what the bundle can do, to a text that names nothing it knows, unless another component has an answer.

    Args:
        others: without a decoder.
    """

    def __init__(self, part: str, bundle: Bundle, others: Iterable[Component]) -> None:
        super().__init__(part, bundle)
        self.others = others

    def row(self, question: Question, task: Task) -> Row:
        images = question.images
        size = images[0].size if images else Size(0, 0)
        return Row(question.prompt, (), [image.pixels for image in images], size, task)

    def answer(self, row: Row) -> Prediction:
        question = Question(row.task.name, row.prompt, [Sized(image, row.size) for image in row.images])
        for component in self.others:
            if component.can(question) and (prediction := component.answer(row)).answer.text:
                return prediction
        return self.predicted(row, Answer(f"This is no question about an image. {self.bundle.about}"))


@cache
def component_types() -> Mapping[str, type[Component]]:
    """Part of a bundle -> the component that an extension adds for it."""
    return loaded("components", lambda _, each: each)


def components_of(bundle: Bundle) -> Mapping[str, Component]:
    """The components of a bundle, by part: those of extensions, the image encoder, those with a decoder, help."""
    added = {part: each(part, bundle) for part, each in component_types().items() if part in bundle.parts}
    found: dict[str, Component] = dict(added)
    for part in bundle.parts:
        if part == SIGLIP:
            found[part] = ImageEncoder(part, bundle)
        elif part not in added and bundle.part(part).answers:
            found[part] = Decoder(part, bundle)
    return {**found, ABOUT: Help(ABOUT, bundle, added.values())}
