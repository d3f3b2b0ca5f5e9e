"""What the endpoints share: requests on their way into the scheduler, and answers on their way back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from openpali.infer.generate import Decoding, Written
from openpali.infer.pali import Pali
from openpali.infer.pipeline import Prediction, ood_warning
from openpali.serve.answers import Json
from openpali.serve.chat import History
from openpali.serve.clients import Client, first, stopping, too_late
from openpali.serve.errors import ApiError
from openpali.serve.limits import ApiKey, Limits
from openpali.serve.media import Media, is_remote
from openpali.serve.metrics import Metrics
from openpali.serve.scheduler import Scheduler
from openpali.serve.tickets import Failed, QueueFull, Ticket, TooLate, Unavailable
from openpali.tasks.example import Image
from openpali.tasks.registry import suited

R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")
OFFERED = ("caption", "vqa", "detect", "refseg", "ocr")
"""Tasks of one image, in the order in which the page shows them."""
WAITING = 16  # calls beside the scheduler that wait; each holds its images
FETCHES = 8  # requests whose images are fetched; each holds one of the 40 threads in which requests are read
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
                told = {"name": name, "takes": task.takes, "names_language": task.template.names_language}
                found.append({**told, "note": self.pali.reservation(name)})
        return found


@dataclass(frozen=True)
class ApiQuestion:
    """A request as endpoints give it on.

    Attributes:
        model: who is asked.
        text: a prompt or a question; with ``task``, what the task asks about.
        images: data URLs or URLs, with the name that errors give them.
        task, lang, raw, part: how the prompt is written, and who answers, see :meth:`Pali.prompted`.
        decoding: how to generate, given the longest answer of the task in tokens.
        stops: texts before which the answer ends.
        alternatives: how many of the most probable tokens to note at each place.
    """

    model: Served
    text: str
    images: Sequence[tuple[str, str]]
    task: str = ""
    lang: str = ""
    decoding: Callable[[int], Decoding] = lambda tokens: Decoding(max_tokens=tokens)
    stops: Sequence[str] = ()
    alternatives: int = 0
    raw: bool = False
    part: str | None = None


@dataclass
class Service:
    """A model that is served, and those that adapters make of it.

    Attributes:
        scheduler: queues requests and answers them.
        name: of the scheduler's model, for clients.
        adapters: by name, what :meth:`Pali.adapted` makes of it.
        history: what to do with chats of several messages.
        origins: web pages that may call it (CORS).
        hosts: names by which it may be called.
    """

    scheduler: Scheduler
    name: str
    limits: Limits
    media: Media
    metrics: Metrics
    key: ApiKey = field(default_factory=lambda: ApiKey(None))
    history: History = "last-turn"
    origins: Sequence[str] = ()
    hosts: Sequence[str] = ()
    adapters: Mapping[str, Pali] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._waiting = 0  # calls that are computed beside the decoder, or wait for it
        self._fetching = asyncio.Semaphore(FETCHES)
        self._decoding = asyncio.Semaphore(DECODES)

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

    async def run(self, work: Callable[[], T]) -> T:
        """Run blocking work in a thread, with errors as clients know them."""
        return await self._told(run_in_threadpool(work))

    async def _told(self, work: Awaitable[T]) -> T:
        """What work returns, with its errors as clients know them."""
        try:
            return await work
        except QueueFull as error:
            headers = {"Retry-After": f"{error.retry_after:.0f}"}
            raise ApiError(429, str(error), code="queue_full", headers=headers) from error
        except Unavailable as error:
            raise ApiError(503, str(error), code="unavailable") from error
        except TooLate as error:
            raise too_late() from error
        except Failed as error:
            raise ApiError(500, "the model could not read this request", code="failed") from error
        except ValueError as error:
            raise ApiError(400, self._without_folders(str(error))) from error

    def _without_folders(self, told: str) -> str:
        """What clients are told of models, by their names instead of their folders."""
        folders = {str(served.pali.folder): name for name, served in self.models.items()}
        for folder in sorted(folders, key=len, reverse=True):  # one may begin as another
            if len(Path(folder).parts) > 1:  # else a word
                told = told.replace(folder, folders[folder])
        return told

    async def embed(
        self,
        request: Request,
        pali: Pali,
        texts: Sequence[str],
        named: Sequence[tuple[str, str]],
        work: Callable[[Sequence[Image]], T],
    ) -> tuple[T, int]:
        """Run work of SigLIP's towers on texts and images, :meth:`in_turn`; also how many tokens they read.

        Args:
            pali: whose towers.
            named: data URLs or URLs of the images, with the name that errors give them.
            work: takes the images.
        """

        def prepare(images: Iterator[Image]) -> tuple[list[Image], int]:
            tokens = pali.embedding.count(texts)  # refuses long texts before images are read
            held: list[Image] = []
            for image in images:
                resized = pali.embedding.preprocess(image)
                tokens += pali.embedding.count((), [resized])
                held.append(min(image, resized, key=lambda each: each.size))  # no large images wait
            return held, tokens

        def compute(prepared: tuple[list[Image], int]) -> tuple[T, int]:
            images, tokens = prepared
            return work(images), tokens

        return await self.in_turn(request, self.media.images(named), named, prepare, compute)

    async def in_turn(
        self,
        request: Request,
        images: Iterator[R],
        named: Sequence[tuple[str, str]],
        prepare: Callable[[Iterator[R]], S],
        work: Callable[[S], T],
    ) -> T:
        """Run work that no scheduler shares, one call after another.

        Args:
            images: read from ``named`` by :class:`Media`.
            named: data URLs or URLs, with the name that errors give them.
            prepare: takes the images; calls that wait hold what it returns.
            work: takes that.

        Raises:
            ClientDisconnect: nobody waits for it any more.
        """
        client = Client(request, self.limits.seconds)

        def compute(prepared: S) -> T:
            client.check()
            return work(prepared)

        async def computed(prepared: S) -> T:
            return await asyncio.wrap_future(self.scheduler.run_aside(partial(compute, prepared)))

        async def wait() -> T:
            try:
                prepared = await self._read(named, lambda: prepare(_while_waiting(images, client)))
                return await self._told(computed(prepared))
            finally:
                self._waiting -= 1

        if self._waiting >= WAITING:
            told = f"{self._waiting} calls are waiting already: try again in a second"
            raise ApiError(429, told, code="queue_full", headers={"Retry-After": "1"})
        self._waiting += 1
        return await client.wait(wait())

    async def submit(
        self, request: Request, asked: ApiQuestion, watch: Callable[[Written], None] | None = None
    ) -> Ticket:
        """Queue a request.

        Raises:
            ClientDisconnect: nobody waits for it any more.
        """
        if len(asked.images) > self.limits.images:
            raise ApiError(400, f"{len(asked.images)} images: send at most {self.limits.images}", param="images")
        if len(asked.text) > self.limits.characters:
            told = f"the text has {len(asked.text):,} characters: send at most {self.limits.characters:,}"
            raise ApiError(413, told, code="text_too_long")
        if asked.raw and asked.task:
            raise ApiError(400, "raw sends the text as the whole prompt, which a task would write", param="raw")

        client = Client(request, self.limits.seconds)

        def work() -> Ticket:
            self.scheduler.check_room()
            images = list(_while_waiting(self.media.images(asked.images), client))
            pali = asked.model.pali
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
                seconds=client.left,
                watch=watch,
            )
            ticket.reworded = self._without_folders(note)
            ticket.warning = ood_warning(asked.model.name) if free else ""
            return ticket

        return await client.wait(self._read(asked.images, work), Ticket.cancel)

    async def answer(self, request: Request, ticket: Ticket) -> list[Prediction]:
        """The answers; gives the request up when its client goes away.

        Raises:
            ClientDisconnect: nobody waits for it any more.
            ApiError: 503 if the server ends meanwhile.
        """
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def end(_: object) -> None:
            with suppress(RuntimeError):  # the server has stopped
                loop.call_soon_threadsafe(ended.set)

        ticket.future.add_done_callback(end)
        try:
            await first(ended.wait(), request)
        except BaseException as error:  # nobody waits any more
            ticket.cancel()
            if isinstance(error, asyncio.CancelledError):
                raise stopping() from error
            raise
        return await self.run(ticket.predictions)

    async def stream(self, request: Request, asked: ApiQuestion) -> tuple[Ticket, AsyncIterator[Written]]:
        """Queue a request, and what is written of it after each step."""
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[tuple[Written, bool]]()

        def put(each: Written, last: bool = False) -> None:
            with suppress(RuntimeError):  # the server has stopped
                loop.call_soon_threadsafe(queue.put_nowait, (each, last))

        ticket = await self.submit(request, asked, put)
        ticket.future.add_done_callback(lambda _: put(Written(), True))

        async def written() -> AsyncIterator[Written]:
            try:
                while True:
                    each, last = await first(queue.get(), request)
                    if last:
                        return
                    yield each
            finally:
                ticket.cancel()

        return ticket, written()

    async def _read(self, named: Sequence[tuple[str, str]], work: Callable[[], T]) -> T:
        """Run work that reads images; little of it at a time, since each holds a thread or a large image."""
        fetches = any(is_remote(url) for url, _ in named)
        limit = self._fetching if fetches else self._decoding if named else nullcontext()
        async with limit:
            return await self.run(work)


def _while_waiting(images: Iterator[R], client: Client) -> Iterator[R]:
    """Images that are read one after another, as long as their client waits."""
    client.check()
    for image in images:
        yield image
        client.check()
