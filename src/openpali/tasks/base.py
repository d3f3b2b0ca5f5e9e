"""The Task: one object that writes the training pair, the inference prompt, and reads the answer.

Training, prediction and evaluation of a task family share it, so that they cannot drift apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np

from openpali.tasks.example import Example, Object, Size

T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """What the model reads and what it should answer.

    Attributes:
        prompt: the text beside the picture.
        target: the right answer, without end token.
        references: every answer that an evaluation accepts, or compares with.
        kind: slice under which an answer is scored ("count", "where", ...); empty for tasks without slices.
        ids: token ids of prompt and target without end tokens, where the texts alone do not determine them
            (denoising); the texts are then for reading only.
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
        objects: what it locates, in pixels of the original picture; empty for tasks that answer in words.
    """

    text: str
    objects: Sequence[Object] = ()

    def scaled(self, factor: int) -> Answer:
        """The answer for the picture enlarged ``factor`` times."""
        return Answer(self.text, tuple(thing.scaled(factor) for thing in self.objects))


@dataclass(frozen=True)
class Task(ABC):
    """A task family with its options; the options are the fields of the subclass.

    Attributes:
        name: the family's name, as in recipes and on the command line.
        metric: name of the metric that scores it.
        max_target_tokens: longest answer that generation waits for, if not told otherwise.
        needs_picture: whether an example without pictures is a mistake.
    """

    name: ClassVar[str]
    metric: ClassVar[str]
    max_target_tokens: ClassVar[int] = 64
    needs_picture: ClassVar[bool] = True

    @abstractmethod
    def write(self, example: Example, rng: np.random.Generator) -> Sample:
        """A training or evaluation pair from an example; all that is random comes from ``rng``.

        Raises:
            ValueError: the example lacks what the task needs; the message names its key and the field.
        """

    @abstractmethod
    def ask(self, text: str = "", *, lang: str = "en") -> str:
        """The prompt for a user's request: ``text`` is the question, the names, ... that the task asks about.

        Raises:
            ValueError: the task needs a text and there is none.
        """

    def parse(self, text: str, size: Size, *, strict: bool = False) -> Answer:
        """Read an answer about a picture of ``size``.

        Args:
            text: what the model wrote.
            size: height and width of the original picture; boxes and masks come in its pixels.
            strict: raise where the answer is not well-formed, instead of leaving that part out.

        Raises:
            ValueError: only if ``strict``.
        """
        return Answer(text.strip())


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


def require_text(text: str, task: Task, what: str) -> str:
    """The user's text without white space around it.

    Raises:
        ValueError: nothing is left.
    """
    if not (stripped := text.strip()):
        raise ValueError(f"task {task.name} needs {what}")
    return stripped
