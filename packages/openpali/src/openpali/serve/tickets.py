"""A request on its way through the scheduler, as its sender sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import cached_property

from openpali.infer.generate import Ask, Generation, Text, Written
from openpali.infer.pipeline import Pipeline, Prediction, Row, cut_at, full_size_bytes
from openpali.infer.routing import next_turn
from openpali.serve.features import FeatureKey
from openpali.text.tokenizer import Tokenizer


class Unavailable(RuntimeError):
    """The scheduler takes no requests: it is stopping, or its engine has failed."""


class QueueFull(RuntimeError):
    """More requests wait than may, or they hold more memory.

    Attributes:
        retry_after: seconds until a place is likely to be free.
    """

    def __init__(self, why: str, retry_after: float) -> None:
        super().__init__(f"{why}: try again in {retry_after:.0f} s")
        self.retry_after = retry_after


class Failed(RuntimeError):
    """The model could not read the request; others go on."""


class Cancelled(RuntimeError):
    """The sender has cancelled the request."""

    def __init__(self) -> None:
        super().__init__("the request was cancelled")


class TooLate(RuntimeError):
    """The request's deadline passed before its answer was complete."""

    def __init__(self) -> None:
        super().__init__("the request's time was over before its answer was complete")


Watch = Callable[[Written], None]
"""Called with what is written so far after each step, in the scheduler's thread; no more once it has raised.

It is not called while several parts may answer, since which one does is known only at the end.
"""


@dataclass
class Attempt:
    """A part of the model that may answer a request.

    Attributes:
        part: who answers.
        row: what it is asked.
        tokenizer: of the answer.
        pipeline: generates the answer; None for a part that has no decoder.
        keys: of the images, for the feature cache.
        ask: how to generate.
        read: tokens that it read, of the images, of the prompt, and its own beside them; 0 while it waits.
        text: what is being generated; None while it waits.
        ood_score: of the images; None while it waits, without images, and without a detector.
        run_encoder_only: makes the answer of a part that has no decoder.
        known: that answer, once it is made.
    """

    part: str
    row: Row
    ask: Ask
    tokenizer: Tokenizer
    pipeline: Pipeline | None = None
    keys: Sequence[FeatureKey] = ()
    read: int = 0
    text: Text | None = None
    ood_score: float | None = None
    run_encoder_only: Callable[[], Prediction] | None = None
    known: Prediction | None = None

    @property
    def width(self) -> int:
        """Slots that it takes."""
        return max(self.ask.decoding.beams, self.ask.decoding.samples)

    @property
    def generations(self) -> list[Generation]:
        """The texts of a complete attempt, best score first."""
        if self.known is not None:
            return [self.known.generation]
        assert self.text is not None
        return self.text.generations


@dataclass(eq=False)
class Ticket:
    """A request.

    Attributes:
        attempts: the parts that may answer, in the order in which they are asked.
        stops: texts that end the answer.
        deadline: on the clock of ``time.monotonic``; None: none.
        watch: see :data:`Watch`.
        submitted, started, first_token, finished: times on the same clock; 0 until then.
        turn: the attempt that is being made; at the end, the one whose answer is given.
        reworded: a sentence for the sender, if the prompt is not the text that was sent.
        warning: ends the answer if the images are out of distribution; empty where programs read the answer.
    """

    attempts: Sequence[Attempt]
    stops: Sequence[str] = ()
    deadline: float | None = None
    watch: Watch | None = None
    submitted: float = field(default_factory=time.monotonic)
    started: float = 0.0
    first_token: float = 0.0
    finished: float = 0.0
    turn: int = 0
    reworded: str = ""
    warning: str = ""
    cancelled: bool = False
    future: Future[list[Generation]] = field(default_factory=Future)

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
    def width(self) -> int:
        """Slots that it takes."""
        return self.now.width

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
        if self.decided:
            return False
        made = [_read(attempt)[0] for attempt in self.attempts[: self.turn + 1]]
        self.turn = next_turn(made, len(self.attempts))
        return self.turn == len(made)

    def cancel(self) -> None:
        """Give it up: its slots are free before the scheduler's next step."""
        self.cancelled = True

    def predictions(self, timeout: float | None = None) -> list[Prediction]:
        """The answers, best score first; waits for them.

        Raises:
            Cancelled, Failed, TooLate, Unavailable: it got none.
            TimeoutError: it has none yet.
        """
        self.future.result(timeout)
        found = _read(self.now, self.stops)
        return [self._warned(each) if each.out_of_distribution and self.warning else each for each in found]

    def _warned(self, prediction: Prediction) -> Prediction:
        answer = prediction.answer
        return replace(prediction, answer=replace(answer, text=f"{answer.text} ({self.warning})".strip()))


def _read(attempt: Attempt, stops: Sequence[str] = ()) -> list[Prediction]:
    """The answers of a complete attempt, each before the first of ``stops``."""
    if attempt.known is not None:
        answer = attempt.known.answer
        if (text := cut_at(answer.text, stops)) != answer.text:
            answer = replace(answer, text=text, confidence=None)
        return [replace(attempt.known, answer=answer)] * attempt.ask.decoding.samples
    pipeline = attempt.pipeline
    assert pipeline is not None
    return [
        replace(pipeline.prediction(attempt.row, each, stops, attempt.ood_score), part=attempt.part)
        for each in attempt.generations
    ]
