"""The Task: one object writes the training pair and the prompt, reads the answer, and scores it.

Training, prediction and evaluation of a task family share it, so that they cannot drift apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np

from openpali.metrics.scores import Scores
from openpali.tasks import dialects, scoring
from openpali.tasks.confidence import Generated
from openpali.tasks.dialects import Dialect, Template, find_dialect
from openpali.tasks.example import Example, Object, Size
from openpali.tasks.scoring import Answered
from openpali.text.tokenizer import Tokenizer

T = TypeVar("T")

Need = Literal["images", "tokenizer", "masks", "max_inputs", "max_targets"]
"""What a task may need: images in its examples, or a tool that fills the field of this name."""

IMAGES: frozenset[Need] = frozenset({"images"})


@dataclass(frozen=True)
class Sample:
    """What the model reads and what it should answer.

    Attributes:
        prompt: the text beside the image.
        target: the right answer, without EOS.
        references: every answer that an evaluation accepts, or compares with.
        kind: slice under which an answer is scored ("count", "where", ...); empty for tasks without slices.
        ids: token ids of prompt and target without EOS, where the texts alone do not determine them (denoising);
            the texts are then for reading only.
    """

    prompt: str
    target: str
    references: Sequence[str] = ()
    kind: str = ""
    ids: tuple[list[int], list[int]] | None = None


@dataclass(frozen=True)
class Answer:
    """A model's answer, read.

    Attributes:
        text: the answer as written.
        objects: what it locates, in pixels of the original image; empty for tasks that answer in words.
    """

    text: str
    objects: Sequence[Object] = ()

    def scaled(self, factor: int) -> Answer:
        """The answer for the image enlarged ``factor`` times."""
        return Answer(self.text, tuple(thing.scaled(factor) for thing in self.objects))


@dataclass(frozen=True)
class Task(ABC):
    """A task family with its options; the options are the fields of the subclass.

    A new family is one file with a subclass and one line in :mod:`openpali.tasks.registry`. It must define ``name``
    and :meth:`write`; what it leaves out is a task that answers an image in words and is scored by exact match.

    Attributes:
        name: the family's name, as in recipes and on the command line.
        form: which prompt of the dialect it uses; empty: the one of its own name.
        prompt: pattern of its prompt where the dialect has none of that form, see :class:`Template`.
        takes: what ``{text}`` in the prompt is, in one word ("question"); empty: nothing.
        video: whether it is for the frames of a video; other tasks of the same form are for an image.
        needs: what it needs besides its options. Tools are given by :func:`~openpali.tasks.registry.open_task`.
        metric: the score that counts, among those of :meth:`score`.
        max_target_tokens: longest answer that generation waits for by default, EOS included.
        dialect: name of the dialect in which it asks.
    """

    name: ClassVar[str]
    form: ClassVar[str] = ""
    prompt: ClassVar[str] = ""
    takes: ClassVar[str] = ""
    video: ClassVar[bool] = False
    needs: ClassVar[frozenset[Need]] = IMAGES
    metric: ClassVar[str] = "exact_match"
    max_target_tokens: ClassVar[int] = 64

    dialect: str = field(default=dialects.DEFAULT, kw_only=True)

    @classmethod
    def template_in(cls, dialect: Dialect) -> Template | None:
        """The template of its prompts in a dialect, or ``None`` where the dialect has no such form."""
        pattern = dialect.prompts.get(cls.form or cls.name, cls.prompt)
        return Template(pattern) if pattern else None

    @property
    def wording(self) -> Dialect:
        """The dialect in which it asks."""
        return find_dialect(self.dialect)

    @property
    def template(self) -> Template:
        """The template of its prompts.

        Raises:
            ValueError: its dialect has none.
        """
        template = self.template_in(self.wording)
        if template is None:
            raise ValueError(f"dialect {self.dialect} has no prompt for task {self.name}")
        return template

    @abstractmethod
    def write(self, example: Example, rng: np.random.Generator) -> Sample:
        """A training or evaluation pair from an example; all that is random comes from ``rng``.

        Raises:
            ValueError: the example lacks what the task needs; the message names its key and the field.
        """

    def ask(self, text: str = "", *, lang: str = "en") -> str:
        """The prompt for a user's request.

        Args:
            text: what the task asks about (``takes``).
            lang: language of the answer.

        Raises:
            ValueError: the task needs a text and there is none, or takes none and there is one.
        """
        text = text.strip()
        if self.takes and not text:
            raise ValueError(f"task {self.name} needs a text: the {self.takes}")
        if text and not self.takes:
            raise ValueError(f"task {self.name} takes no text, not {text!r}")
        return self.template.render(text, lang=lang)

    def parse(self, text: str, size: Size, *, strict: bool = False) -> Answer:
        """Read an answer about an image of ``size``.

        Args:
            text: what the model wrote.
            size: height and width of the original image; boxes and masks come in its pixels.
            strict: raise where the answer is not well-formed, instead of leaving that part out.

        Raises:
            ValueError: only if ``strict``.
        """
        return Answer(text.strip())

    def measure(
        self, example: Example, answer: Answer, generated: Generated, tokenizer: Tokenizer
    ) -> Mapping[str, Any]:
        """What :meth:`score` needs of an answer besides its text, as plain JSON values.

        Called right after generation, when the image and the log-probabilities of the tokens are available.

        Args:
            example: with the truth.
            answer: as :meth:`parse` has read it.
            generated: the tokens of the answer.
            tokenizer: whose ids these are.

        Raises:
            ValueError: a tool is missing.
        """
        return {}

    @classmethod
    def score(cls, rows: Sequence[Answered]) -> Scores:
        """Exact match, case and all, over all samples and per kind."""
        return scoring.with_slices(scoring.exact)(rows)


def choose(items: Sequence[T], rng: np.random.Generator) -> T:
    """One of ``items``, each as likely as any other."""
    return items[int(rng.integers(len(items)))]


def require(value: T, example: Example, field: str) -> T:
    """``value``, which the task needs from ``field`` of the example.

    Raises:
        ValueError: it is empty.
    """
    if not value:
        raise ValueError(f"sample {example.key} has no {field}")
    return value
