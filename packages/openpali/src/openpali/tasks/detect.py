"""Detection by name: "detect: a and b" -> "ymin xmin ymax xmax name ..." (PaLI-3 section 3.1)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from openpali.metrics.boxes import Detection, right_boxes
from openpali.tasks import scoring
from openpali.tasks.base import Answer, Sample, Task, choose, referred, require
from openpali.tasks.confidence import Generated, box_log_probs, scored_boxes
from openpali.tasks.example import Box, Example, Object, Size
from openpali.tasks.scoring import Answered
from openpali.text.locations import LocationCodec
from openpali.text.tokenizer import Tokenizer

NOTHING = "none"
"""The answer if the image shows none of the names asked for."""


class CommaInName(UserWarning):
    """A request for several names may be written with commas, which ask for one name."""


@dataclass(frozen=True)
class Detect(Task):
    """Find all instances of the names asked for, or what an expression refers to.

    Attributes:
        of: what is asked for: the names of objects ("names"), or the example's expression ("expression"), which is
            never taken apart, and whose answer may have any name.
        bins: positions along each side of the image that coordinates are rounded to, 2 to 10,000.
        style: coordinates as plain integers ("text"), or as location tokens ("token").
        max_names: most names in a prompt.
        absent: probability of also asking for a name of the example's ``vocabulary`` that is not in the image;
            the answer leaves it out, and is ``"none"`` if there is no other name.
        order: order of the instances in the target: "random", or "reading", by top left corner from top to bottom.
    """

    name: ClassVar[str] = "detect"
    coordinates: ClassVar[bool] = True
    alternatives: ClassVar[bool] = True
    takes: ClassVar[str] = "names"
    metric: ClassVar[str] = "iou"
    right: ClassVar[str] = "f1@0.5"
    max_target_tokens: ClassVar[int] = 256

    of: Literal["names", "expression"] = "names"
    bins: int = 1000
    style: Literal["text", "token"] = "text"
    max_names: int = 2
    absent: float = 0.0
    order: Literal["random", "reading"] = "random"

    def __post_init__(self) -> None:
        if self.of not in ("names", "expression"):
            raise ValueError(f"of is {self.of!r}; it must be 'names' or 'expression'")
        if self.max_names < 1:
            raise ValueError(f"max_names is {self.max_names}; it must be at least 1")
        if not 0 <= self.absent <= 1:
            raise ValueError(f"absent is {self.absent}; it must be a probability in 0..1")
        if self.order not in ("random", "reading"):
            raise ValueError(f"order is {self.order!r}; it must be 'random' or 'reading'")
        _ = self.codec  # checks bins and style

    @property
    def codec(self) -> LocationCodec:
        """How boxes are written."""
        return LocationCodec(self.bins, self.style, self.dialect.objects_joiner)

    def write(self, example: Example, rng: np.random.Generator) -> Sample:
        if self.of == "expression":
            return self._refer(example)
        objects = self._objects(example)
        present = sorted({thing.name for thing in objects})
        missing = sorted({*map(self.codec.spelled, example.vocabulary)} - set(present))
        names: list[str] = []
        if present:
            count = int(rng.integers(1, min(self.max_names, len(present)) + 1))
            names = [present[i] for i in rng.choice(len(present), count, replace=False)]
        if missing and self.absent and (rng.random() < self.absent or not present):
            names.insert(int(rng.integers(len(names) + 1)), choose(missing, rng))
            if len(names) > self.max_names:
                names = [name for name in names if name in missing]
        require(names, example, "objects")
        between = self.dialect.names_joiner
        if joined := [name for name in names if between in name]:
            raise ValueError(
                f"sample {example.key}: the name {joined[0]!r} would be asked for as two: leave out {between!r}"
            )

        things = sorted((thing for thing in objects if thing.name in names), key=lambda x: x.box)
        if self.order == "random":
            things = [things[i] for i in rng.permutation(len(things))]
        codec = self.codec
        try:
            named = [(codec.widened(thing.box, example.size), thing.name) for thing in things]
            target = codec.encode_named(named, example.size)
        except ValueError as error:
            raise ValueError(f"sample {example.key}: {error}") from error
        target = target or NOTHING
        return Sample(self.template.render(between.join(names)), target, (target,))

    def _refer(self, example: Example) -> Sample:
        """The objects that the expression refers to; each is called so, or by its name where that cannot be read.

        What is thinner than a bin, as icons on large screens may be, is one bin wide.
        """
        expression, codec = self._expression(example), self.codec
        things = [(codec.widened(thing.box, example.size), thing.name) for thing in referred(example)]
        try:
            target = codec.encode_named([(box, expression) for box, _ in things], example.size)
        except ValueError:  # "5 star hotel" would be read as a coordinate
            try:
                target = codec.encode_named(things, example.size)
            except ValueError as error:
                raise ValueError(f"sample {example.key}: {error}") from error
        return Sample(self.template.render(expression), target, (target,))

    def ask(self, text: str = "", *, lang: str = "en") -> str:
        """``text`` is a name, or several with the dialect's joiner. A comma is part of a name, and warned of.

        It may also be an expression, if the task asks for that.
        """
        if "," in text and self.of == "names":  # one text for all, so that a server holds and shows it once
            message = f"a comma is part of a name: write {self.dialect.names_joiner!r} between several names"
            warnings.warn(message, CommaInName, stacklevel=2)
        return super().ask(text, lang=lang)

    def parse(self, text: str, size: Size, *, prompt: str = "", strict: bool = False) -> Answer:
        if text.strip() == NOTHING:
            return Answer(NOTHING)
        wanted = self._wanted(prompt)
        found = self.codec.decode_named(text, size, strict=strict)
        if strict and not found:
            raise ValueError("the answer is empty; it must be 'none' if nothing is found")
        return Answer(text.strip(), tuple(Object(name, Box(*box)) for box, name in found if wanted(name)))

    def claims(self, generated: Generated, tokenizer: Tokenizer, prompt: str = "") -> list[float]:
        """The log-probability of each box with its name."""
        return box_log_probs(generated, tokenizer, self.codec, self._wanted(prompt))

    @classmethod
    def right_claims(cls, row: Answered) -> list[bool]:
        """Whether each box has an object of its name, at an IoU of 0.5 or more, and no better box has it."""
        [found], [true] = scoring.boxes([row])
        return right_boxes(found, true)

    def measure(
        self, example: Example, sample: Sample, answer: Answer, generated: Generated, tokenizer: Tokenizer
    ) -> Mapping[str, Any]:
        """Boxes as lists of name, four edges and confidence: ``found``, and ``true`` of the names asked for.

        All are named by the expression, if one is asked for.
        """
        wanted = self._wanted(sample.prompt)
        scored = scored_boxes(generated, tokenizer, self.codec, example.size, wanted)
        if not generated.ids:
            scored = [Detection(each.name, each.box, each.confidence or 0.0) for each in answer.objects]
        if self.of == "expression":
            name = self._expression(example)
            return {
                "found": [[name, *map(float, thing.box), thing.score] for thing in scored],
                "true": [[name, *map(float, thing.box), 1.0] for thing in referred(example)],
            }
        asked = {thing.name for thing in self.parse(sample.target, example.size).objects}
        true = self.shown(example, asked)
        return {
            "found": [[thing.name, *map(float, thing.box), thing.score] for thing in scored],
            "true": [[thing.name, *map(float, thing.box), 1.0] for thing in true],
        }

    score = staticmethod(scoring.detections)

    def _wanted(self, prompt: str) -> Callable[[str], bool]:
        """Whether a prompt asks for a name, for a part of it, or for a longer name that contains it."""
        asked = self.asked(prompt)
        names = (asked, *self.names_in(prompt))
        every = not asked or self.of == "expression"
        return lambda name: every or any(alike(name, each) for each in names)

    def names_in(self, prompt: str) -> list[str]:
        asked = self.asked(prompt)
        if self.of == "expression":
            return [asked] if asked else []
        return asked.split(self.dialect.names_joiner) if asked else []

    def spell(self, objects: Sequence[Object], size: Size) -> str:
        """An answer with those of the objects that can be written: not with a name that starts with a number."""
        written = []
        for thing in objects:
            with suppress(ValueError):
                written.append(self.codec.encode_named([(thing.box, thing.name)], size))
        return self.dialect.objects_joiner.join(written) or NOTHING

    def answer(self, objects: Sequence[Object], size: Size) -> Answer:
        """The answer that an encoder gives which found these objects; they are widened where they are written."""
        written = [replace(each, box=Box(*self.codec.widened(each.box, size))) for each in objects]
        return Answer(self.spell(written, size), tuple(objects))

    def shown(self, example: Example, names: Container[str]) -> list[Object]:
        """The objects of these names, which are as answers spell them."""
        return [thing for thing in self._objects(example) if thing.name in names]

    def _expression(self, example: Example) -> str:
        """The expression, with one space between words."""
        return require(" ".join(example.expression.split()), example, "expression")

    def _objects(self, example: Example) -> list[Object]:
        """The objects, with their names as answers spell them."""
        codec = self.codec
        return [replace(thing, name=codec.spelled(thing.name)) for thing in example.objects]


def alike(name: str, other: str) -> bool:
    """Whether two names are the same, or one is a part of the other: "cup", "cup of coffee"."""
    one, two = _words(name), _words(other)
    return one in two or two in one


def _words(name: str) -> str:
    """A name for comparisons: whole words, whatever their case."""
    return f" {' '.join(name.casefold().split())} "
