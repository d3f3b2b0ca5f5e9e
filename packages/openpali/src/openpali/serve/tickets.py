"""A request on its way through the scheduler, as its sender sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import cached_property

from openpali.infer.generate import Ask, Generation, Text, Written
from openpali.infer.pipeline import Pipeline, Prediction, Row, cut_at, full_size_bytes
from openpali.infer.routing import next_turn
from openpali.text.tokenizer import Tokenizer


class Refused(RuntimeError):
    """A request is not answered.

    Attributes:
        status, code: of HTTP, and for clients.
    """

    status, code = 500, "failed"


class Unavailable(Refused):
    """The scheduler takes no requests: it is stopping, or its engine has failed."""

    status, code = 503, "unavailable"


class QueueFull(Refused):
    """More requests wait than may, or they hold more memory."""

    status, code = 429, "queue_full"


class Failed(Refused):
    """The model could not read the request; others go on."""


class Cancelled(Refused):
    """The sender has cancelled the request."""


Watch = Callable[[Written], None]
"""Called with what is written so far after each step, in the scheduler's thread; no more once it has raised.

It is not called while several parts may answer, since which one does is known only at the end.
"""


@dataclass
class Attempt:
    """A part of the model that may answer a request."""

    part: str  # who answers
    row: Row  # what it is asked
    ask: Ask  # how to generate
    tokenizer: Tokenizer  # of the answer
    pipeline: Pipeline | None = None  # generates the answer; None for a part without a decoder
    keys: Sequence[tuple[Hashable, str]] = ()  # of the images, for the feature cache
    read: int = 0  # tokens that it read, of the images, of the prompt, and its own beside them; 0 while it waits
    text: Text | None = None  # what is being generated; None while it waits, and for a part without a decoder
    ood_score: float | None = None  # of the images; None while it waits, without images, and without a detector
    answer: Callable[[], Prediction] | None = None  # makes the answer of a part without a decoder
    known: Future[Prediction] | None = None  # that answer, once the part is asked

    @property
    def width(self) -> int:
        """Slots that it takes."""
        return max(self.ask.decoding.beams, self.ask.decoding.samples) if self.pipeline else 0

    @property
    def generations(self) -> list[Generation]:
        """The texts of a complete attempt, best score first."""
        if self.known is not None:
            return [self.known.result().generation]
        assert self.text is not None
        return self.text.generations

    def predictions(self, stops: Sequence[str] = ()) -> list[Prediction]:
        """The answers of a complete attempt, best score first, each before the first of ``stops``."""
        if self.pipeline is None:
            assert self.known is not None
            prediction = self.known.result()
            if (text := cut_at(prediction.answer.text, stops)) != prediction.answer.text:
                answer = replace(prediction.answer, text=text, confidence=None)
                prediction = replace(prediction, answer=answer)
            return [prediction] * self.ask.decoding.samples
        read = (self.pipeline.prediction(self.row, g, stops, self.ood_score) for g in self.generations)
        return [replace(each, part=self.part) for each in read]


@dataclass(eq=False)
class Ticket:
    """A request."""

    attempts: Sequence[Attempt]  # the parts that may answer, in the order in which they are asked
    stops: Sequence[str] = ()  # texts that end the answer
    watch: Watch | None = None  # see Watch
    # submitted, started, first_token, finished: on the clock of time.monotonic; 0 until then
    submitted: float = field(default_factory=time.monotonic)
    started: float = 0.0
    first_token: float = 0.0
    finished: float = 0.0
    turn: int = 0  # the attempt that is being made; at the end, the one whose answer is given
    reworded: str = ""  # a sentence for the sender, if the prompt is not the text that was sent
    warning: str = ""  # ends the answer if the images are out of distribution; empty where programs read the answer
    cancelled: bool = False
    future: Future[list[Generation]] = field(default_factory=Future)  # the texts of the answer, once it is complete

    def __post_init__(self) -> None:
        self.future.set_running_or_notify_cancel()  # only the scheduler ends it

    @property
    def now(self) -> Attempt:
        """The attempt that is being made, or whose answer is given."""
        return self.attempts[self.turn]

    @property
    def pipeline(self) -> Pipeline:
        """What generates the answer that is being made."""
        assert self.now.pipeline is not None
        return self.now.pipeline

    @property
    def note(self) -> str:
        """Sentences for the sender: that the model was not trained on the task, and what was sent instead."""
        untrained = self.now.pipeline.reservation(self.now.row.task.name) if self.now.pipeline else ""
        return "; ".join(filter(None, (untrained, self.reworded)))

    @cached_property
    def held(self) -> int:
        """Bytes of its images in full size."""
        return full_size_bytes(attempt.row for attempt in self.attempts)

    @property
    def shape(self) -> tuple[Pipeline, int, int, int]:
        """What requests have in common that are encoded together: who answers, frames, prompt tokens / 8, beams."""
        attempt = self.now
        return self.pipeline, len(attempt.keys), -(-len(attempt.row.ids) // 8), attempt.ask.decoding.beams

    @property
    def decided(self) -> bool:
        """Whether only one part was asked, so that no other answer can replace this one."""
        return len(self.attempts) == 1

    def try_next(self) -> bool:
        """Go on to the next attempt, if this one is complete and does not settle the answer; else settle it."""
        if self.decided and self.now.pipeline:
            return False
        made = [attempt.predictions()[0] for attempt in self.attempts[: self.turn + 1]]
        self.turn = next_turn(made, len(self.attempts))
        return self.turn == len(made)

    def cancel(self) -> None:
        """Give it up: its slots are free before the scheduler's next step."""
        self.cancelled = True

    def predictions(self, timeout: float | None = None) -> list[Prediction]:
        """The answers, best score first; waits for them.

        Raises:
            Refused: it got none.
            ValueError: a part without a decoder cannot answer it.
            TimeoutError: it has none yet.
        """
        self.future.result(timeout)
        found = self.now.predictions(self.stops)
        return [self._warned(each) if each.out_of_distribution and self.warning else each for each in found]

    def _warned(self, prediction: Prediction) -> Prediction:
        answer = prediction.answer
        return replace(prediction, answer=replace(answer, text=f"{answer.text} ({self.warning})".strip()))
