"""Many requests through one model: they join the decoder at each step, and leave it when they finish.

    scheduler = Scheduler(Pali.from_pretrained("nano"))
    with scheduler.running():
        [prediction] = scheduler.submit(["cat.jpg"], "Answer in en: what is it? <extra_id_0>").predictions()

The answer to a request is that of :meth:`openpali.infer.pali.Pali.predict`, whatever else is being answered.
Requests begin in the order in which they came: none overtakes another, so none waits for ever. One thread decodes,
and one beside it runs the parts without a decoder, which read pages and find elements, one request after another;
threads that submit decode and resize the images.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Condition, Thread
from typing import TypeVar

from openpali.data.media.images import image_hash
from openpali.infer.batches import group
from openpali.infer.generate import Ask, Decoding, Rows
from openpali.infer.pali import Pali
from openpali.infer.pipeline import Frames, Pipeline, Prediction, Row
from openpali.mistakes import reason
from openpali.serve.encoding import FeatureCache, encode
from openpali.serve.limits import FEATURES_MIB, HELD, QUEUE, SLOTS
from openpali.serve.tickets import Attempt, Cancelled, Failed, QueueFull, Refused, Ticket, Unavailable, Watch
from openpali.tasks.base import Task
from openpali.text.growing import stop_at

_log = logging.getLogger(__name__)
T = TypeVar("T")

ENCODED = 4  # most requests that are encoded between two steps


@dataclass(frozen=True)
class _Lane:
    """Requests that are decoded together. Their memories are padded to the longest, so they have similar lengths;
    each memory is shared by as many rows, so they have the same number of beams.
    """

    pipeline: Pipeline
    beams: int
    length: int  # tokens of the first memory
    rows: Rows


class Scheduler:
    """Answers requests with a model or a bundle of models.

    Args:
        pali: the model. Parts are loaded when they are first asked.
        slots: hypotheses that are decoded together; a request takes as many as it has beams or samples.
        queue: most requests that wait for slots.
        encoded: most requests that are encoded between two steps, so that others go on.
        features: most bytes of visual tokens to keep.
        finished: called with each request that has ended, however it did; if it raises, that is logged.

    Attributes:
        failure: why the engine failed; empty while it works.
    """

    def __init__(
        self,
        pali: Pali,
        *,
        slots: int = SLOTS,
        queue: int = QUEUE,
        encoded: int = ENCODED,
        features: int = FEATURES_MIB * 2**20,
        finished: Callable[[Ticket], None] = lambda ticket: None,
    ) -> None:
        self.pali = pali
        self.slots, self.queue, self.encoded = slots, queue, encoded
        self.features = FeatureCache(features)
        self.finished = finished
        self.failure = ""
        self._waiting: deque[Ticket] = deque()  # for slots
        self._aside: list[Ticket] = []  # that wait for the thread beside the decoder, or have it
        self._live: list[Ticket] = []  # that are decoded
        self._lanes: list[_Lane] = []
        self._change = Condition()
        self._beside = ThreadPoolExecutor(1, "beside the decoder")
        self._closing = self._given_up = False

    @property
    def waiting(self) -> int:
        """Requests that wait for slots, or are answered without a decoder."""
        return len(self._waiting) + len(self._aside)

    @property
    def used(self) -> int:
        """Slots in use."""
        return sum(map(_occupied, list(self._live)))

    @property
    def accepting(self) -> bool:
        """Whether requests are taken."""
        return not (self._closing or self.failure)

    def submit(
        self,
        frames: Frames,
        prompt: str,
        *,
        task: Task | None = None,
        part: str | None = None,
        pali: Pali | None = None,
        decoding: Decoding | None = None,
        stops: Sequence[str] = (),
        alternatives: int = 0,
        watch: Watch | None = None,
    ) -> Ticket:
        """Queue a request. Images are decoded and resized here, in the caller's thread.

        Args:
            frames, prompt, task, part, decoding: as for one row of :meth:`openpali.infer.pali.Pali.predict`.
            pali: who answers: this scheduler's model, or one that an adapter makes of it.
            stops: texts before which the answer ends.
            alternatives: how many of the most probable tokens to note at each place.
            watch: sees the tokens as they come, if there is one text and it is not searched with beams.

        Raises:
            QueueFull: too many requests wait.
            Unavailable: no requests are taken.
        """
        self.check_room()
        pali = pali or self.pali
        rows = pali.rows(frames, prompt, task, part)
        early = stops if len(rows) == 1 else ()  # else whole answers are compared, and the best one is cut
        attempts = [_attempt(pali, each, row, decoding, early, alternatives) for each, row in rows.items()]
        width = max(attempt.width for attempt in attempts)
        if width > self.slots:
            raise ValueError(f"{width} beams or samples, more than the {self.slots} slots: ask for fewer")
        ticket = Ticket(attempts, stops, watch)
        with self._change:
            self.check_room()
            self._queue(ticket)
        return ticket

    def check_room(self) -> None:
        """Check that a request would be taken now, before its images are fetched.

        Raises:
            QueueFull, Unavailable: as :meth:`submit`.
        """
        with self._change:
            if self.failure:
                raise Unavailable("the engine has failed: the server must be started again")
            if self._closing:
                raise Unavailable("the server is stopping")
            if self.waiting >= self.queue:
                raise QueueFull(f"{self.waiting} requests are waiting already: try again in a second")
            held = sum(ticket.held for ticket in (*self._waiting, *self._aside, *self._live))
            if held > HELD:
                raise QueueFull(f"the images of other requests take {held / 1e9:.1f} GB already: try again later")

    def run_aside(self, work: Callable[[], T]) -> Future[T]:
        """Run work in the thread beside the decoder, after what was given to it before.

        Raises:
            Unavailable: no requests are taken.
        """
        try:
            return self._beside.submit(work)
        except RuntimeError as error:  # it is shut down
            raise Unavailable("the server is stopping") from error

    def turn(self) -> bool:
        """Drop what was given up, encode and admit what there are slots for, and make one step of the decoder.

        Returns:
            Whether anything is left to do.
        """
        try:
            self._drop()
            self._admit()
            for lane in self._lanes:
                if len(lane.rows):
                    lane.rows.step()
            self._collect()
        except Exception as error:
            self._fail(error)
            raise
        return bool(self._live or self._waiting or self._aside)

    def run(self) -> None:
        """Take turns until :meth:`close`, and rest while there is nothing to do."""
        while True:
            with self._change:
                self._change.wait_for(lambda: self._busy or (self._closing and not self._aside))
                if not self._busy:
                    return
            try:
                self.turn()
            except Exception:
                _log.exception("the engine has failed, and no more requests are answered")
                return

    @property
    def _busy(self) -> bool:
        """Whether there is something to do in the thread of the decoder."""
        aside = any(ticket.now.known and ticket.now.known.done() for ticket in self._aside)
        return bool(self._live or self._waiting or aside or (self._given_up and self._aside))

    @contextmanager
    def running(self, drain: float | None = None) -> Iterator[Thread]:
        """Run in a thread within the block; at its end, finish what was accepted.

        Args:
            drain: seconds after which unfinished requests are given up; None: never.
        """
        thread = Thread(target=self.run, name="scheduler", daemon=True)
        thread.start()
        try:
            yield thread
        finally:
            self.close()
            thread.join(drain)
            self.give_up()
            thread.join()
            self._beside.shutdown()

    def close(self) -> None:
        """Accept no more requests; those accepted are finished."""
        with self._change:
            self._closing = True
            self._change.notify_all()

    def give_up(self) -> None:
        """End the requests that are not finished, before the next step, and accept no more."""
        with self._change:
            self._given_up = True
            self.close()
        self._beside.shutdown(wait=False, cancel_futures=True)

    def _queue(self, ticket: Ticket, *, first: bool = False) -> None:
        """Let a request wait for its next attempt; ``first``: before those that wait for slots."""
        with self._change:
            if ticket.now.pipeline is None and not self._given_up:
                self._aside.append(ticket)
                ticket.now.known = self.run_aside(partial(self._answer_aside, ticket))
                ticket.now.known.add_done_callback(self._notify)
            elif first:
                self._waiting.appendleft(ticket)
            else:
                self._waiting.append(ticket)
            self._change.notify_all()

    def _answer_aside(self, ticket: Ticket) -> Prediction:
        if error := self._end_of(ticket):
            raise error
        ticket.started = ticket.started or time.monotonic()
        assert ticket.now.answer is not None
        return ticket.now.answer()

    def _notify(self, _: object) -> None:
        with self._change:
            self._change.notify_all()

    def _drop(self) -> None:
        """Give up what was cancelled, or everything."""
        ends = {ticket: self._end_of(ticket) for ticket in [*self._waiting, *self._aside, *self._live]}
        gone = {ticket: error for ticket, error in ends.items() if error is not None}
        if not gone:
            return
        with self._change:
            self._waiting = deque(t for t in self._waiting if t not in gone)
            self._aside = [t for t in self._aside if t not in gone]
        self._live = [t for t in self._live if t not in gone]
        for lane in self._lanes:
            lane.rows.drop([ticket.now.text for ticket in gone if ticket.now.text])
        for ticket, error in gone.items():
            self._end(ticket, error)

    def _end_of(self, ticket: Ticket) -> Refused | None:
        """The error with which a request must end now; None if it goes on."""
        if ticket.cancelled:
            return Cancelled("the request was cancelled")
        return Unavailable("the server is stopping") if self._given_up else None

    def _admit(self) -> None:
        """Encode the requests whose turn it is, those of one shape together, and let them join the decoder."""
        free, picked = self.slots - self.used, list[Ticket]()
        with self._change:
            while self._waiting and self._waiting[0].now.width <= free and len(picked) < self.encoded:
                picked.append(self._waiting.popleft())
                free -= picked[-1].now.width
            self._live += picked
        for places in group([ticket.shape for ticket in picked]).values():
            self._start([picked[i] for i in places])

    def _start(self, tickets: Sequence[Ticket]) -> None:
        """Encode requests of one shape and let them join the decoder; one that cannot be encoded harms no other."""
        first, now = tickets[0], time.monotonic()
        for ticket in tickets:
            ticket.started = ticket.started or now
        try:
            memory = encode(first.pipeline, [ticket.now for ticket in tickets], self.features)
            rows = self._lane(first, memory.outputs.shape[1]).rows
            begun = rows.begin(memory, [ticket.now.ask for ticket in tickets])
        except Exception as error:
            if len(tickets) > 1:
                for ticket in tickets:
                    self._start([ticket])
                return
            self._live.remove(first)
            self._end(first, error)
            return
        texts, read = rows.add(begun), memory.mask.sum(1).tolist()
        first_read = int(first.pipeline.model.first_is_read)
        for ticket, text, count in zip(tickets, texts, read, strict=True):
            ticket.now.text, ticket.now.read = text, count + first_read

    def _lane(self, ticket: Ticket, length: int) -> _Lane:
        """Where a request with a memory of so many tokens is decoded."""
        beams = ticket.now.ask.decoding.beams
        for lane in self._lanes:
            alike = lane.length <= 2 * length <= 4 * lane.length
            if alike and (lane.pipeline, lane.beams) == (ticket.pipeline, beams):
                return lane
        rows = Rows(ticket.pipeline.engine, ticket.now.tokenizer.eos_id)
        self._lanes.append(_Lane(ticket.pipeline, beams, length, rows))
        return self._lanes[-1]

    def _collect(self) -> None:
        """Show what was written, and end what is complete, or ask the next part."""
        now, complete = time.monotonic(), list[Ticket]()
        for ticket in self._live:
            ticket.first_token = ticket.first_token or now
            assert ticket.now.text is not None
            if ticket.watch is not None and ticket.decided:
                try:
                    ticket.watch(ticket.now.text.written)
                except Exception:  # of this request: the others go on, and so does its answer
                    _log.exception("a request's watch has failed, and is not called again")
                    ticket.watch = None
            if not ticket.now.text.live:
                complete.append(ticket)
        with self._change:
            complete += [ticket for ticket in self._aside if ticket.now.known and ticket.now.known.done()]
            self._live = [ticket for ticket in self._live if ticket not in complete]
            self._aside = [ticket for ticket in self._aside if ticket not in complete]
        again = list[Ticket]()
        for ticket in complete:
            ticket.first_token = ticket.first_token or now
            try:
                (again.append if ticket.try_next() else self._end)(ticket)
            except Exception as error:  # of this answer
                self._end(ticket, error)
        for ticket in reversed(again):
            self._queue(ticket, first=True)
        self._lanes = [lane for lane in self._lanes if len(lane.rows)]

    def _end(self, ticket: Ticket, error: Exception | None = None) -> None:
        ticket.finished = time.monotonic()
        if error is not None:
            error = self._end_of(ticket) or error
        if error is None:
            ticket.future.set_result(ticket.now.generations)
        elif isinstance(error, Refused | ValueError):
            ticket.future.set_exception(error)
        else:
            _log.error("a request could not be answered", exc_info=error)
            ticket.future.set_exception(Failed(reason(error)))
        try:
            self.finished(ticket)
        except Exception:
            _log.exception("what is called with requests that have ended has failed")

    def _fail(self, error: Exception) -> None:
        """The engine is in no known state: nothing goes on."""
        with self._change:
            self.failure = reason(error)
            gone = [*self._waiting, *self._aside, *self._live]
            self._waiting.clear()
            self._aside, self._live, self._lanes = [], [], []
        for ticket in gone:
            if not ticket.future.done():
                self._end(ticket, Unavailable("the engine has failed"))


def _occupied(ticket: Ticket) -> int:
    """Slots that a request still occupies: a beam search keeps all of its slots to the end, a sample frees its own
    when it is complete."""
    text = ticket.now.text
    return ticket.now.width if text is None or ticket.now.ask.decoding.beams > 1 else len(text.live)


def _attempt(
    pali: Pali, part: str, row: Row, decoding: Decoding | None, stops: Sequence[str], alternatives: int
) -> Attempt:
    """A part's attempt to answer, before it has begun."""
    component = pali.component(part)
    if not component.decodes:
        ask, tokenizer = Ask(decoding or Decoding()), pali.tokenizer_for(part)
        return Attempt(part, row, ask, tokenizer, answer=partial(component.answer, row))
    pipeline = pali.pipeline(part)
    stop = stop_at(pipeline.tokenizer, stops) if stops else None
    ask = Ask(pipeline.decoding_for(row.task, decoding), pipeline.choices(row.task), stop, alternatives)
    keys = [(pipeline.vision_key, image_hash(image)) for image in row.images]
    return Attempt(part, row, ask, pipeline.tokenizer, pipeline, keys)
