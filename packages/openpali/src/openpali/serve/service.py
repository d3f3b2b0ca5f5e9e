"""What the endpoints share: requests on their way into the scheduler, and answers on their way back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import TypeVar

from openpali.infer.generate import Decoding, Written
from openpali.infer.pali import Pali
from openpali.infer.pipeline import Prediction, ood_warning
from openpali.serve.answers import Json
from openpali.serve.chat import History
from openpali.serve.errors import ApiError
from openpali.serve.limits import ApiKey, Limits
from openpali.serve.media import Media, Named, is_remote
from openpali.serve.metrics import Metrics
from openpali.serve.scheduler import Scheduler
from openpali.serve.tickets import QueueFull, Ticket, Watch
from openpali.tasks.example import Image
from openpali.tasks.registry import suited

S = TypeVar("S")
T = TypeVar("T")
OFFERED = ("caption", "vqa", "detect", "refseg", "ocr")
"""Tasks of one image, in the order in which the page shows them."""
WAITING = 16  # calls beside the scheduler that wait; each holds its images
FETCHES = 8  # requests whose images are fetched at a time
DECODES = 8  # other requests whose images are decoded at a time; one of 50 megapixels takes 700 MB meanwhile


@dataclass(frozen=True)
class Served:
    """A model under the name that clients know."""

    name: str
    pali: Pali

    @cached_property
    def tasks(self) -> list[Json]:
        """What the model can be asked for: each task with the text that it takes, and a note if it is untrained."""
        found = []
        for name in OFFERED:
            with suppress(ValueError):  # the model lacks a part, or a tool as masks
                task = self.pali.task(name, warn=False)
                takes = {"takes": task.takes, "names_language": task.template.names_language}
                found.append({"name": name, **takes, "note": self.pali.reservation(name)})
        return found


@dataclass(frozen=True)
class ApiQuestion:
    """A request as endpoints give it on."""

    model: Served  # who is asked
    text: str  # a prompt or a question; with task, what the task asks about
    images: Named  # data URLs or URLs, with the name that errors give them
    # task, lang, raw, part: how the prompt is written, and who answers, see Pali.prompted
    task: str = ""
    lang: str = ""
    # how to generate, given the longest answer of the task in tokens
    decoding: Callable[[int], Decoding] = lambda tokens: Decoding(max_tokens=tokens)
    stops: Sequence[str] = ()  # texts before which the answer ends
    alternatives: int = 0  # how many of the most probable tokens to note at each place
    raw: bool = False
    part: str | None = None


@dataclass
class Service:
    """A model that is served, and those that adapters make of it."""

    scheduler: Scheduler  # queues requests and answers them
    name: str  # of the scheduler's model, for clients
    limits: Limits
    media: Media
    metrics: Metrics
    key: ApiKey = field(default_factory=lambda: ApiKey(None))
    history: History = "last-turn"  # what to do with chats of several messages
    origins: Sequence[str] = ()  # web pages that may call it (CORS)
    hosts: Sequence[str] = ()  # names by which it may be called
    adapters: Mapping[str, Pali] = field(default_factory=dict)  # by name, what Pali.adapted makes of it

    def __post_init__(self) -> None:
        self._waiting = 0  # calls that are computed beside the decoder, or wait for it
        self._fetching, self._decoding = ThreadPoolExecutor(FETCHES), ThreadPoolExecutor(DECODES)

    @contextmanager
    def running(self, drain: float | None = 0) -> Iterator[None]:
        """Answer within the block, see :meth:`Scheduler.running`; at its end, end the threads that read images."""
        try:
            with self.scheduler.running(drain):
                yield
        finally:
            for pool in (self._fetching, self._decoding):
                pool.shutdown(wait=False, cancel_futures=True)

    @cached_property
    def models(self) -> Mapping[str, Served]:
        """All models by name; first the one that is asked where none is named."""
        named = {self.name: self.scheduler.pali, **self.adapters}
        return {name: Served(name, pali) for name, pali in named.items()}

    def model(self, name: str | None) -> Served:
        found = self.models.get(self.name if name is None else name)
        if found is None:
            here = ", ".join(map(repr, self.models))
            verb = "there are" if len(self.models) > 1 else "it is"
            raise ApiError(404, f"no model {name!r} here: {verb} {here}", param="model", code="model_not_found")
        return found

    async def run(self, work: Callable[[], T], named: Named = ()) -> T:
        """Run blocking work in a thread; of what reads images, little at a time.

        Args:
            named: images that the work reads.
        """
        pool = None if not named else self._fetching if any(is_remote(url) for url, _ in named) else self._decoding
        with self._user_errors():
            return await asyncio.get_running_loop().run_in_executor(pool, work)

    @contextmanager
    def _user_errors(self) -> Iterator[None]:
        """What is wrong with a question as an answer of HTTP, with names of models instead of their folders."""
        try:
            yield
        except ValueError as error:
            raise ApiError(400, self._hide_folders(str(error))) from error

    def _hide_folders(self, message: str) -> str:
        folders = {str(served.pali.folder): name for name, served in self.models.items()}
        for folder in sorted(folders, key=len, reverse=True):  # one may begin as another
            if len(Path(folder).parts) > 1:  # else a word
                message = message.replace(folder, folders[folder])
        return message

    async def embed(
        self, pali: Pali, texts: Sequence[str], named: Named, work: Callable[[Sequence[Image]], T]
    ) -> tuple[T, int]:
        """Run work of SigLIP's towers on texts and images, :meth:`in_turn`; also how many tokens they read.

        Args:
            pali: whose towers.
            work: takes the images.
        """

        def read(named: Named) -> tuple[list[Image], int]:
            tokens = pali.embedding.count(texts)  # refuses long texts before images are read
            held: list[Image] = []
            for image in self.media.images(named):
                resized = pali.embedding.preprocess(image)
                tokens += pali.embedding.count((), [resized])
                held.append(min(image, resized, key=lambda each: each.size))  # no large images wait
            return held, tokens

        return await self.in_turn(named, read, lambda prepared: (work(prepared[0]), prepared[1]))

    async def in_turn(self, named: Named, read: Callable[[Named], S], work: Callable[[S], T]) -> T:
        """Run work that no scheduler shares, one call after another.

        Args:
            named: images that it needs.
            read: takes them; calls that wait hold what it returns.
            work: takes that.
        """
        if self._waiting >= WAITING:
            raise QueueFull(f"{self._waiting} calls are waiting already: try again in a second")
        self._waiting += 1
        try:
            prepared = await self.run(lambda: read(named), named)
            with self._user_errors():
                return await asyncio.wrap_future(self.scheduler.run_aside(lambda: work(prepared)))
        finally:
            self._waiting -= 1

    async def submit(self, asked: ApiQuestion, watch: Watch | None = None) -> Ticket:
        """Queue a request."""
        if (images := len(asked.images)) > self.limits.images:
            raise ApiError(400, f"{images} images: send at most {self.limits.images}", param="images")
        if (length := len(asked.text)) > (most := self.limits.characters):
            raise ApiError(413, f"the text has {length:,} characters: send at most {most:,}", code="text_too_long")
        if asked.raw and asked.task:
            raise ApiError(400, "raw sends the text as the whole prompt, which a task would write", param="raw")
        self.scheduler.check_room()
        made, left = list[Ticket](), Event()

        def work() -> Ticket:
            made.append(self._submit(asked, watch))
            if left.is_set():
                made[0].cancel()
            return made[0]

        try:
            return await self.run(work, asked.images)
        except asyncio.CancelledError:  # nobody waits for it, and the thread goes on
            left.set()
            for ticket in made:
                ticket.cancel()
            raise

    def _submit(self, asked: ApiQuestion, watch: Watch | None) -> Ticket:
        images, pali = list(self.media.images(asked.images)), asked.model.pali
        named = pali.task(suited(asked.task, len(images)), asked.part) if asked.task else None
        if named and "images" in named.needs and not images:
            raise ApiError(400, f"task {named.name} is about an image: send one", param="images")
        task, prompt, note, part, free = pali.prompted(
            asked.text, named, lang=asked.lang, frames=len(images), raw=asked.raw, part=asked.part
        )
        ticket = self.scheduler.submit(
            images,
            prompt,
            task=task,
            part=part,
            pali=pali,
            decoding=asked.decoding(min(pali.longest_answer(task), self.limits.new_tokens)),
            stops=asked.stops,
            alternatives=asked.alternatives,
            watch=watch,
        )
        ticket.reworded = self._hide_folders(note)
        ticket.warning = ood_warning(asked.model.name) if free else ""
        return ticket

    async def answer(self, ticket: Ticket) -> list[Prediction]:
        """The answers; gives the request up if it is cancelled meanwhile."""
        try:
            with self._user_errors():
                await asyncio.wrap_future(ticket.future)
        finally:
            ticket.cancel()
        return await self.run(ticket.predictions)

    async def stream(self, asked: ApiQuestion) -> tuple[Ticket, AsyncIterator[Written]]:
        """Queue a request, and what is written of it after each step.

        Raises:
            TimeoutError: in the iterator, if its time is up.
        """
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[Written | None]()
        until = loop.time() + self.limits.seconds

        def put(each: Written | None) -> None:
            with suppress(RuntimeError):  # the server has stopped
                loop.call_soon_threadsafe(queue.put_nowait, each)

        ticket = await self.submit(asked, put)
        ticket.future.add_done_callback(lambda _: put(None))

        async def written() -> AsyncIterator[Written]:
            while True:
                async with asyncio.timeout_at(until):
                    each = await queue.get()
                if each is None:
                    return
                yield each

        return ticket, written()
