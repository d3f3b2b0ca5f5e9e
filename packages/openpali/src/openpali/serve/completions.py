"""``/v1/chat/completions`` and ``/v1/completions``: whole, or as a stream of events."""

from __future__ import annotations

import json
import time
import uuid
from bisect import bisect_left
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from openpali.infer.generate import Decoding, Written
from openpali.infer.pipeline import Prediction, cut_at
from openpali.serve.answers import FINISH, Json, log_probs, own, usage
from openpali.serve.api import ApiRoute, too_late
from openpali.serve.chat import read_chat
from openpali.serve.errors import ApiError
from openpali.serve.limits import Limits
from openpali.serve.media import named
from openpali.serve.schemas import ChatRequest, CompletionRequest, Generating
from openpali.serve.service import ApiQuestion, Served, Service
from openpali.serve.tickets import Refused, Ticket
from openpali.text.growing import BROKEN, GrowingText

HISTORY = "X-OpenPaLI-History"
"""Header that says how many messages of a chat were ignored."""
DONE = "data: [DONE]\n\n"  # last event of a stream


def completions_router(service: Service) -> APIRouter:
    """The endpoints."""
    router = APIRouter(tags=["OpenAI"], route_class=ApiRoute)

    @router.post("/v1/chat/completions")
    async def chat(body: ChatRequest) -> Response:
        """Ask about images. The last message of the user counts; several images are the frames of a video."""
        model = service.model(body.model)
        if body.top_logprobs and not body.logprobs:
            raise ApiError(400, "top_logprobs needs logprobs: set it to true", param="top_logprobs")
        question = read_chat(body.messages, service.history, body.task)
        limit = body.max_completion_tokens or body.max_tokens
        asked = ApiQuestion(
            model,
            question.text,
            question.images,
            body.task,
            body.lang,
            partial(decoding_of, body, limit, service.limits),
            body.stops,
            body.top_logprobs,
            body.raw,
        )
        headers = {HISTORY: f"last-turn; {question.ignored} earlier messages ignored"} if question.ignored else {}
        return await _complete(
            service, body, asked, _Format("chat.completion", model, body.stream, body.logprobs), headers
        )

    @router.post("/v1/completions")
    async def complete(body: CompletionRequest) -> Response:
        """Continue a prompt as the model was trained on, with images or without."""
        model = service.model(body.model)
        asked = ApiQuestion(
            model,
            body.prompt,
            named(body.images),
            decoding=partial(decoding_of, body, body.max_tokens, service.limits),
            stops=body.stops,
            alternatives=body.logprobs or 0,
            raw=True,
        )
        return await _complete(
            service, body, asked, _Format("text_completion", model, body.stream, body.logprobs is not None)
        )

    return router


def decoding_of(body: Generating, limit: int | None, limits: Limits, longest: int) -> Decoding:
    """How to generate; ``longest``: the limit of tokens where the request has none."""
    if (limit or 0) > limits.new_tokens:
        newer = getattr(body, "max_completion_tokens", None) is not None
        name = "max_completion_tokens" if newer else "max_tokens"
        raise ApiError(400, f"{name} is {limit}, but this server generates {limits.new_tokens} at most", param=name)
    if body.n > 1 and not body.temperature:
        raise ApiError(400, "n above 1 needs a temperature above 0: greedy answers are all the same", param="n")
    return Decoding(
        max_tokens=limit or longest,
        beams=body.beams,
        temperature=body.temperature,
        top_p=body.top_p if body.temperature and body.top_p < 1 else None,
        samples=body.n,
        seed=body.seed,
    )


async def _complete(
    service: Service, body: Generating, asked: ApiQuestion, form: _Format, headers: Mapping[str, str] | None = None
) -> Response:
    if body.stream:
        ticket, written = await service.stream(asked)
        in_last = body.stream_options is None or not body.stream_options.include_usage
        return _Stream(ticket, _events(service, ticket, written, form, in_last), headers)
    ticket = await service.submit(asked)
    predictions = await service.answer(ticket)

    def choices() -> list[Json]:
        return [form.rest(i, each, ticket, _Pieces(ticket)) for i, each in enumerate(predictions)]

    counts = usage(ticket.now.read, [p.generation for p in predictions])
    return JSONResponse({**form.head, "choices": await service.run(choices), "usage": counts}, headers=headers)


class _Stream(StreamingResponse):
    """Server-sent events of an answer that is given up if they are not sent to the end."""

    media_type = "text/event-stream"

    def __init__(self, ticket: Ticket, events: AsyncIterator[str], headers: Mapping[str, str] | None) -> None:
        super().__init__(events, headers=headers)
        self._ticket = ticket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ticket.cancel()


async def _events(
    service: Service, ticket: Ticket, written: AsyncIterator[Written], form: _Format, in_last: bool
) -> AsyncIterator[str]:
    """Server-sent events: pieces of the answer, the reason of its end, what was used, and ``[DONE]``.

    What was used is in the last piece, or, where the client asked for it (``include_usage``), in one of its own.
    """
    pieces = _Pieces(ticket)
    try:
        if form.is_chat:
            start = {"delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
            for i in range(ticket.now.ask.decoding.samples):
                yield event({**form.head, "choices": [{"index": i, **start}]})
        async for each in written:
            if piece := pieces.add(each.ids):
                yield event({**form.head, "choices": [form.choice(0, piece, ticket, each, pieces)]})
        predictions = await service.run(ticket.predictions)
        counts = usage(ticket.now.read, [p.generation for p in predictions])
        streamed = len(predictions) == 1 and ticket.decided  # else nothing is sent before
        for i, prediction in enumerate(predictions):
            sent = pieces if streamed else _Pieces(ticket)
            choice = await service.run(partial(form.rest, i, prediction, ticket, sent))
            last = {"usage": counts} if in_last and i == len(predictions) - 1 else {}
            yield event({**form.head, "choices": [choice], **last})
        if not in_last:
            yield event({**form.head, "choices": [], "usage": counts})
    except TimeoutError:
        yield event(too_late().as_json())
    except (HTTPException, Refused) as error:
        yield event(ApiError.of(error).as_json())
    yield DONE


def event(data: Json) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


class _Pieces:
    """Cuts a text that grows, and its tokens, into pieces that do not change any more."""

    def __init__(self, ticket: Ticket) -> None:
        self._text, self._before = (GrowingText(ticket.now.tokenizer) for _ in range(2))
        self._stops = ticket.stops
        self._held = max((len(stop) for stop in ticket.stops), default=1) - 1  # may be the start of a stop
        self._begins: list[int] = []  # where each token begins
        self._ended = False
        self.sent = ""
        self.tokens = 0  # whose log-probabilities are sent

    def add(self, ids: Sequence[int]) -> str:
        text = cut_at(self._text.of(ids), self._stops).lstrip()
        text = text[: max(0, len(text) - self._held)].rstrip().rstrip(BROKEN)
        piece = text[len(self.sent) :] if text.startswith(self.sent) else ""
        self.sent += piece
        return piece

    def begun(self, ids: Sequence[int]) -> int:
        """How many of the tokens begin before a stop, and before what is held back since it may be one."""
        if not self._stops:
            return len(ids)
        for n in range(len(self._begins), len(ids)):
            self._begins.append(len(self._before.of(ids[:n]).rstrip(BROKEN)))
        text = cut_at(self._text.of(ids), self._stops)
        return bisect_left(self._begins, len(text) if self._ended else len(text.rstrip(BROKEN)) - self._held)

    def rest(self, whole: str) -> str:
        self._ended = True
        return whole[len(self.sent) :] if whole.startswith(self.sent) else ""


class _Format:
    """A format of responses and of chunks of streams.

    Args:
        kind: OpenAI's name of the whole response.

    Attributes:
        head: what every response and chunk begins with.
    """

    def __init__(self, kind: str, model: Served, streams: bool, with_log_probs: bool) -> None:
        self.is_chat, self.streams, self.with_log_probs = kind == "chat.completion", streams, with_log_probs
        self.head = {
            "id": f"{'chatcmpl' if self.is_chat else 'cmpl'}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model.name,
            "object": f"{kind}.chunk" if self.is_chat and self.streams else kind,
        }

    def choice(self, index: int, text: str, ticket: Ticket, written: Written, pieces: _Pieces) -> Json:
        """A choice with a text, and the log-probabilities of the tokens that are not sent yet."""
        found = None
        if self.with_log_probs:
            first, pieces.tokens = pieces.tokens, pieces.begun(written.ids)
            found = self._of_tokens(log_probs(ticket.now.tokenizer, written, first, pieces.tokens), ticket)
        content: Json = {"text": text}
        if self.is_chat and self.streams:
            content = {"delta": {"content": text}}
        elif self.is_chat:
            content = {"message": {"role": "assistant", "content": text}}
        return {"index": index, **content, "logprobs": found, "finish_reason": None}

    def rest(self, index: int, prediction: Prediction, ticket: Ticket, pieces: _Pieces) -> Json:
        """The last choice of a stream, or the only one: what is not sent yet of an answer."""
        generation = prediction.generation
        written = Written(generation.ids, generation.log_probs, generation.alternatives)
        return {
            **self.choice(index, pieces.rest(prediction.answer.text), ticket, written, pieces),
            "finish_reason": FINISH[generation.finish_reason],
            "openpali": own(prediction, note=ticket.note),
        }

    def _of_tokens(self, found: Sequence[Json], ticket: Ticket) -> Json:
        """Log-probabilities as clients know them."""
        if self.is_chat:
            return {"content": found, "refusal": None}
        top = [{other["token"]: other["logprob"] for other in [*each["top_logprobs"], each]} for each in found]
        return {
            "tokens": [each["token"] for each in found],
            "token_logprobs": [each["logprob"] for each in found],
            "top_logprobs": top if ticket.now.ask.alternatives else None,
        }
