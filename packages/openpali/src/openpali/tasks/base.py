"""The Task: one object writes the training pair and the prompt, reads the answer, and scores it.

Training, prediction and evaluation of a task family share it, so that they cannot drift apart.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np

from openpali.metrics.scores import Scores
from openpali.tasks import scoring
from openpali.tasks.confidence import Generated
from openpali.tasks.dialects import PALI3, Dialect, Template
from openpali.tasks.example import Example, Object, Size
from openpali.tasks.scoring import Answered
from openpali.text.characters import composed
from openpali.text.tokenizer import Tokenizer

T = TypeVar("T")

Need = Literal["images", "tokenizer", "masks", "max_inputs", "max_targets"]
"""A requirement of a task: images in its examples, or a tool that fills the field of this name."""

IMAGES: frozenset[Need] = frozenset({"images"})


@dataclass(frozen=True)
class Sample:
    """A prompt and its target. Target and references lose outer white space, as answers do (:meth:`Task.parse`).

    Attributes:
        prompt: the text beside the image.
        target: the right answer, without EOS.
        references: every answer that an evaluation accepts, or compares with.
        kind: slice under which an answer is scored ("count", "where", ...); empty for tasks without slices.
        ids: token ids of prompt and target without EOS, where the texts alone do not determine them (denoising);
            prompt and target then serve display only.
        spelled: the target is written one character a token (:meth:`openpali.text.tokenizer.Tokenizer.spell`).
    """

    prompt: str
    target: str
    references: Sequence[str] = ()
    kind: str = ""
    ids: tuple[list[int], list[int]] | None = None
    spelled: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", self.target.strip())
        object.__setattr__(self, "references", tuple(text.strip() for text in self.references))

    def prompt_ids(self, tokenizer: Tokenizer) -> list[int]:
        return self.ids[0] if self.ids else tokenizer.encode(self.prompt)

    def target_ids(self, tokenizer: Tokenizer) -> list[int]:
        """The tokens of the target, without EOS."""
        if self.ids:
            return self.ids[1]
        return tokenizer.spell(self.target) if self.spelled else tokenizer.encode(self.target)


@dataclass(frozen=True)
class Answer:
    """A parsed answer.

    Attributes:
        text: the answer as written.
        objects: the objects it locates, in pixels of the original image; empty for tasks that answer in words.
        confidence: probability that the text is right, if it is in words and the model is calibrated for its task;
            else None. Each object has its own.
    """

    text: str
    objects: Sequence[Object] = ()
    confidence: float | None = None

    def assured(self, confidences: Sequence[float], *, of_objects: bool) -> Answer:
        """The answer with the confidence of its text, or of each of its objects."""
        if not of_objects:
            return dataclasses.replace(self, confidence=confidences[0])
        pairs = zip(self.objects, confidences, strict=True)
        return dataclasses.replace(self, objects=tuple(dataclasses.replace(o, confidence=c) for o, c in pairs))

    @property
    def confidences(self) -> list[float]:
        """The confidence of its text or of each of its objects, as far as they have one."""
        found = (self.confidence, *(thing.confidence for thing in self.objects))
        return [each for each in found if each is not None]

    def unsure(self) -> Answer:
        """The answer without any confidence."""
        objects = tuple(dataclasses.replace(thing, confidence=None) for thing in self.objects)
        return dataclasses.replace(self, objects=objects, confidence=None)

    def scaled(self, factor: int) -> Answer:
        """The answer for the image enlarged ``factor`` times."""
        return dataclasses.replace(self, objects=tuple(thing.scaled(factor) for thing in self.objects))


@dataclass(frozen=True)
class Task(ABC):
    """A task family with its options; the options are the fields of the subclass.

    A new family is one file with a subclass and one line in :mod:`openpali.tasks.registry`. It must define ``name``
    and :meth:`write`. By default, a task answers in words about an image and is scored by exact match.

    Attributes:
        name: the family's name, as in recipes and on the command line.
        form: key of its prompt in the dialect; empty means ``name``.
        prompt: pattern of its prompt if the dialect has no such form, see :class:`Template`.
        takes: kind of text that fills ``{text}`` in the prompt ("question"); empty if the prompt has no such slot.
        video: whether it takes the frames of a video; other tasks of the same form take one image.
        needs: requirements besides its options. :func:`~openpali.tasks.registry.open_task` supplies the tools.
        metric: name of the main score among those of :meth:`score`.
        right: name of the score that is 1 for each right answer, see :meth:`rights`.
        max_target_tokens: default limit of generated tokens, EOS included, unless the dialect has another.
        coordinates: whether its targets have coordinates, relative to the image. Its claims are then the objects.
        alternatives: whether many answers are right: captions in other words, a box that is a bin off. P(correct)
            is then above the probability of the text.
        dialect: of its prompts.
    """

    name: ClassVar[str]
    form: ClassVar[str] = ""
    prompt: ClassVar[str] = ""
    takes: ClassVar[str] = ""
    video: ClassVar[bool] = False
    needs: ClassVar[frozenset[Need]] = IMAGES
    metric: ClassVar[str] = "exact_match"
    right: ClassVar[str] = "exact_match"
    max_target_tokens: ClassVar[int] = 64
    coordinates: ClassVar[bool] = False
    alternatives: ClassVar[bool] = False

    dialect: Dialect = field(default=PALI3, kw_only=True)

    @classmethod
    def template_in(cls, dialect: Dialect) -> Template | None:
        """The template of its prompts in a dialect, or ``None`` if the dialect has no such form."""
        pattern = dialect.prompts.get(cls.form or cls.name, cls.prompt)
        return Template(pattern) if pattern else None

    @classmethod
    def takes_ocr(cls) -> bool:
        """Whether its prompt has a place for text that an OCR engine found: the option ``ocr``."""
        return "ocr" in {each.name for each in dataclasses.fields(cls)}

    @property
    def template(self) -> Template:
        """The template of its prompts."""
        template = self.template_in(self.dialect)
        if template is None:
            raise ValueError(f"dialect {self.dialect.name} has no prompt for task {self.name}")
        return template

    @property
    def limit(self) -> int:
        """Limit of generated tokens, EOS included."""
        return self.max_target_tokens

    def asked(self, prompt: str) -> str:
        """What fills ``{text}`` in a prompt; empty for one that is not written by this task."""
        return (self.template.read(prompt) or {}).get("text", "")

    @property
    def answer_set(self) -> Sequence[str]:
        """The texts of which every answer is one; empty: an answer may be any text."""
        return ()

    @abstractmethod
    def write(self, example: Example, rng: np.random.Generator) -> Sample:
        """A training or evaluation pair from an example; ``rng`` is the only source of randomness.

        Raises:
            ValueError: the example lacks what the task needs; the message names its key and the field.
        """

    def names_in(self, prompt: str) -> list[str]:
        """The names of objects that a prompt asks for, if the task finds objects by name."""
        return []

    def ask(self, text: str = "", *, lang: str = "en") -> str:
        """The prompt for a user's request.

        Args:
            text: fills the prompt's slot (``takes``).
            lang: language of the answer.
        """
        text = composed(text.strip())
        if self.takes and not text:
            raise ValueError(f"task {self.name} needs a text: the {self.takes}")
        if text and not self.takes:
            raise ValueError(f"task {self.name} takes no text: leave out {text!r}, or ask it with task vqa")
        return self.template.render(text, lang=lang)

    def parse(self, text: str, size: Size, *, prompt: str = "", strict: bool = False) -> Answer:
        """Parse an answer about an image of ``size``.

        Args:
            text: what the model wrote.
            size: height and width of the original image; boxes and masks are in its pixels.
            prompt: what the model was asked, if objects that it did not ask for are to be left out.
            strict: raise if the answer is malformed, instead of leaving out the malformed part.

        Raises:
            ValueError: only if ``strict``.
        """
        return Answer(text.strip())

    def claims(self, generated: Generated, tokenizer: Tokenizer, prompt: str = "") -> list[float]:
        """The log-probability of each claim of an answer: of the whole text, EOS included.

        Where the task locates objects, each object that :meth:`parse` returns is a claim.

        Args:
            generated: the tokens of the answer.
            tokenizer: the tokenizer of these tokens.
            prompt: as for :meth:`parse`.
        """
        return [math.fsum(generated.log_probs)]

    @classmethod
    def right_claims(cls, row: Answered) -> list[bool]:
        """Whether each claim of a measured answer is right: the text, if it is one of the references.

        There may be fewer than :meth:`claims`, where the truth about the last ones is unknown.
        """
        return [row.text in row.references]

    def measure(
        self, example: Example, sample: Sample, answer: Answer, generated: Generated, tokenizer: Tokenizer
    ) -> Mapping[str, Any]:
        """Measurements of an answer that :meth:`score` needs besides its text, as plain JSON values.

        Called right after generation, when the image and the log-probabilities of the tokens are available.

        Args:
            example: holds the ground truth.
            sample: what was asked about it.
            answer: from :meth:`parse`.
            generated: the tokens of the answer.
            tokenizer: the tokenizer of these tokens.
        """
        return {}

    @classmethod
    def score(cls, rows: Sequence[Answered]) -> Scores:
        """Exact match, case and all, over all samples and per kind."""
        return scoring.with_slices(scoring.exact)(rows)

    @classmethod
    def rights(cls, rows: Sequence[Answered]) -> list[bool]:
        """Whether each answer is right.

        That is an exact match; for boxes, one for each true box and no other, with its name and an IoU of at least
        0.5; for a mask, an IoU of at least 0.5.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other scores, that need more samples
            values = cls.score(rows).per_sample[cls.right]
        return [value == 1 for value in values]


def choose(items: Sequence[T], rng: np.random.Generator) -> T:
    """One of ``items``, each as likely as any other."""
    return items[int(rng.integers(len(items)))]


def require(value: T, example: Example, field: str) -> T:
    """``value``, which the task needs from ``field`` of the example."""
    if not value:
        raise ValueError(f"sample {example.key} has no {field}")
    return value


def filled(texts: Sequence[str]) -> Sequence[str]:
    """The texts that are not blank."""
    return tuple(text for text in texts if text.strip())


def referred(example: Example) -> list[Object]:
    """The objects that the expression of an example refers to, at least one."""
    found = []
    for index in require(example.referred, example, "referred objects"):
        if not 0 <= index < len(example.objects):
            raise ValueError(f"sample {example.key} refers to object {index} of {len(example.objects)} objects")
        found.append(example.objects[index])
    return found
