"""A request on its way through the scheduler, as its sender sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from openpali.data.pipeline.encode import Arrays
from openpali.infer.generate import Ask, Generation, Text, Written
from openpali.infer.pipeline import Pipeline, Prediction
from openpali.serve.features import Key
from openpali.tasks.base import Task
from openpali.tasks.example import Size


class Unavailable(RuntimeError):
    """The scheduler takes no requests: it is stopping, or its engine has failed."""


class QueueFull(RuntimeError):
    """More requests wait than may.

    Attributes:
        retry_after: seconds until a place is likely to be free.
    """

    def __init__(self, waiting: int, retry_after: float) -> None:
        super().__init__(f"{waiting} requests are waiting already: try again in {retry_after:.0f} s")
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
"""Called with what is written so far after each step, in the scheduler's thread; no more once it has raised."""


@dataclass(eq=False)
class Ticket:
    """A request.

    Attributes:
        pipeline, task, prompt, size: who answers what, about an image of which size.
        arrays: prompt and images as the model takes them.
        keys: of the images, for the feature cache.
        ask: how to generate.
        stops: texts that end the answer.
        deadline: on the clock of ``time.monotonic``; None: none.
        watch: see :data:`Watch`.
        submitted, started, first_token, finished: times on the same clock; 0 until then.
        read: tokens that the model read, of the images, of the prompt, and its own beside them; 0 while it waits.
        text: what is being generated; None while it waits.
        ood_score: of its images; None while it waits, without images, and without a detector.
        note: a sentence for the sender, if the prompt is not the text that was sent.
    """

    pipeline: Pipeline
    task: Task
    prompt: str
    size: Size
    arrays: Arrays
    keys: Sequence[Key]
    ask: Ask
    stops: Sequence[str] = ()
    deadline: float | None = None
    watch: Watch | None = None
    submitted: float = field(default_factory=time.monotonic)
    started: float = 0.0
    first_token: float = 0.0
    finished: float = 0.0
    read: int = 0
    text: Text | None = None
    ood_score: float | None = None
    note: str = ""
    cancelled: bool = False
    future: Future[list[Generation]] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.future.set_running_or_notify_cancel()  # only the scheduler ends it

    @property
    def width(self) -> int:
        """Slots that it takes."""
        return max(self.ask.decoding.beams, self.ask.decoding.samples)

    @property
    def shape(self) -> tuple[Pipeline, int, int, int]:
        """What requests have in common that are encoded together: who answers, frames, prompt tokens / 8, beams."""
        frames = len(self.arrays["images"]) if "images" in self.arrays else 0
        return self.pipeline, frames, -(-len(self.arrays["prompt"]) // 8), self.ask.decoding.beams

    def cancel(self) -> None:
        """Give it up: its slots are free before the scheduler's next step."""
        self.cancelled = True

    def predictions(self, timeout: float | None = None) -> list[Prediction]:
        """The answers, best score first; waits for them.

        Raises:
            Cancelled, Failed, TooLate, Unavailable: it got none.
            TimeoutError: it has none yet.
        """
        generations = self.future.result(timeout)
        return [
            self.pipeline.prediction(self.prompt, self.task, self.size, each, self.stops, self.ood_score)
            for each in generations
        ]
