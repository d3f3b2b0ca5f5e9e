"""``/v1/chat/completions`` and ``/v1/completions``: whole, or as a stream of events."""

from __future__ import annotations

import json
import time
import uuid
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from openpali.infer.generate import Decoding, Generation, Written
from openpali.infer.pipeline import Prediction, cut_at
from openpali.serve.answers import FINISH, Json, log_probs, own, usage
from openpali.serve.bodies import describe_body, read_body
from openpali.serve.chat import read_chat
from openpali.serve.errors import ApiError
from openpali.serve.limits import Limits
from openpali.serve.schemas import ChatRequest, CompletionRequest, Generating
from openpali.serve.service import ApiQuestion, Service
from openpali.serve.tickets import Ticket
from openpali.text.growing import BROKEN, GrowingText

HISTORY = "X-OpenPaLI-History"
"""Header that says how many messages of a chat were ignored."""
DONE = "data: [DONE]\n\n"  # last event of a stream


def completions_router(service: Service) -> APIRouter:
    """The endpoints."""
    router = APIRouter(tags=["OpenAI"])

    @router.post("/v1/chat/completions", openapi_extra=describe_body(ChatRequest))
    async def chat(request: Request) -> Response:
        """Ask about images. The last message of the user counts; several images are the frames of a video."""
        body = await read_body(request, ChatRequest)
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
        headers = {}
        if question.ignored:
            headers[HISTORY] = f"last-turn; {question.ignored} earlier messages ignored"
        return await _complete(service, request, body, asked, _ChatFormat(model.name, body.logprobs), headers)

    @router.post("/v1/completions", openapi_extra=describe_body(CompletionRequest))
    async def complete(request: Request) -> Response:
        """Continue a prompt as the model was trained on, with images or without."""
        body = await read_body(request, CompletionRequest)
        model = service.model(body.model)
        images = [(url, f"images[{i}]") for i, url in enumerate(body.images)]
        decoding = partial(decoding_of, body, body.max_tokens, service.limits)
        alternatives = body.logprobs or 0
        asked = ApiQuestion(
            model, body.prompt, images, decoding=decoding, stops=body.stops, alternatives=alternatives, raw=True
        )
        return await _complete(
            service, request, body, asked, _CompletionFormat(model.name, body.logprobs is not None), {}
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
    service: Service,
    request: Request,
    body: Generating,
    asked: ApiQuestion,
    form: _ResponseFormat,
    headers: dict[str, str],
) -> Response:
    if body.stream:
        ticket, written = await service.stream(request, asked)
        always = body.stream_options is None or not body.stream_options.include_usage
        events = _events(service, ticket, written, form, always)
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)
    ticket = await service.submit(request, asked)
    predictions = await service.answer(request, ticket)
    counts = usage(ticket.now.read, [p.generation for p in predictions])
    choices = await service.run(lambda: [form.whole(i, ticket, each) for i, each in enumerate(predictions)])
    return JSONResponse({**form.head(False), "choices": choices, "usage": counts}, headers=headers)


async def _events(
    service: Service,
    ticket: Ticket,
    written: AsyncIterator[Written],
    form: _ResponseFormat,
    in_last: bool,
) -> AsyncIterator[str]:
    """Server-sent events: pieces of the answer, the reason of its end, what was used, and ``[DONE]``.

    What was used is in the last piece, or, where the client asked for it (``include_usage``), in one of its own.
    """
    pieces = _Pieces(ticket)
    try:
        for start in form.starts(ticket.now.ask.decoding.samples):
            yield event({**form.head(True), "choices": [start]})
        async for each in written:
            if piece := pieces.add(each.ids):
                yield event({**form.head(True), "choices": [form.piece(0, piece, ticket, each, pieces)]})
        predictions = await service.run(ticket.predictions)
        counts = usage(ticket.now.read, [p.generation for p in predictions])
        for i, prediction in enumerate(predictions):
            generation = prediction.generation
            streamed = len(predictions) == 1 and ticket.decided
            sent = pieces if streamed else _Pieces(ticket)  # else nothing is sent before
            rest = sent.rest(prediction.answer.text)
            choice = await service.run(partial(form.piece, i, rest, ticket, _written(generation), sent))
            choice |= {
                "finish_reason": FINISH[generation.finish_reason],
                "openpali": own(prediction, note=ticket.note),
            }
            last = {"usage": counts} if in_last and i == len(predictions) - 1 else {}
            yield event({**form.head(True), "choices": [choice], **last})
        if not in_last:
            yield event({**form.head(True), "choices": [], "usage": counts})
    except ApiError as error:
        yield event(error.as_json())
    yield DONE


def _written(generation: Generation) -> Written:
    return Written(generation.ids, generation.log_probs, generation.alternatives)


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


class _ResponseFormat(ABC):
    """Base of the two response formats: builds whole responses and chunks of streams."""

    kind: str
    piece_kind: str
    prefix: str

    def __init__(self, model: str, with_log_probs: bool) -> None:
        self.with_log_probs = with_log_probs
        self._head = {"id": f"{self.prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    def head(self, stream: bool) -> Json:
        """What every answer begins with."""
        return {**self._head, "object": self.piece_kind if stream else self.kind}

    def starts(self, count: int) -> list[Json]:
        """Of a stream with so many choices, what comes first."""
        return []

    def whole(self, index: int, ticket: Ticket, prediction: Prediction) -> Json:
        generation, pieces = prediction.generation, _Pieces(ticket)
        return {
            "index": index,
            **self.text(pieces.rest(prediction.answer.text), stream=False),
            "logprobs": self.log_probs(ticket, _written(generation), pieces),
            "finish_reason": FINISH[generation.finish_reason],
            "openpali": own(prediction, note=ticket.note),
        }

    def piece(self, index: int, text: str, ticket: Ticket, written: Written, pieces: _Pieces) -> Json:
        """A choice of a stream."""
        values = self.log_probs(ticket, written, pieces)
        return {"index": index, **self.text(text, stream=True), "logprobs": values, "finish_reason": None}

    @abstractmethod
    def text(self, text: str, stream: bool) -> Json:
        """A text, whole or a piece of a stream."""

    def log_probs(self, ticket: Ticket, written: Written, pieces: _Pieces) -> Any:
        """Log-probabilities of the tokens that are not sent yet; None if they are not asked for."""
        if not self.with_log_probs:
            return None
        first, pieces.tokens = pieces.tokens, pieces.begun(written.ids)
        return self.of_tokens(log_probs(ticket.now.tokenizer, written, first, pieces.tokens), ticket)

    @abstractmethod
    def of_tokens(self, found: Sequence[Json], ticket: Ticket) -> Json:
        """Log-probabilities as clients know them."""


class _ChatFormat(_ResponseFormat):
    kind, piece_kind, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def starts(self, count: int) -> list[Json]:
        start = {"delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        return [{"index": i, **start} for i in range(count)]

    def text(self, text: str, stream: bool) -> Json:
        return {"delta": {"content": text}} if stream else {"message": {"role": "assistant", "content": text}}

    def of_tokens(self, found: Sequence[Json], ticket: Ticket) -> Json:
        return {"content": found, "refusal": None}


class _CompletionFormat(_ResponseFormat):
    kind, piece_kind, prefix = "text_completion", "text_completion", "cmpl"

    def text(self, text: str, stream: bool) -> Json:
        return {"text": text}

    def of_tokens(self, found: Sequence[Json], ticket: Ticket) -> Json:
        top = [{other["token"]: other["logprob"] for other in [*each["top_logprobs"], each]} for each in found]
        return {
            "tokens": [each["token"] for each in found],
            "token_logprobs": [each["logprob"] for each in found],
            "top_logprobs": top if ticket.now.ask.alternatives else None,
        }
