"""A door in front of replicas that die when a test wants it; no cluster is needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import httpx
import pytest
from ray.exceptions import RayActorError

from openpali.serve.options import Options
from openpali_lab.cluster.serve import ATTEMPTS, build, create_door

JSON = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
STREAM = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}


def piece(data: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


class Replicas:
    """Stands in for a handle: the next list of messages answers a request; an error among them is raised."""

    def __init__(self, answers: Sequence[Sequence[Any]]) -> None:
        self.answers: Iterator[Sequence[Any]] = iter(answers)
        self.asked: list[tuple[str, bytes]] = []
        self.ended = 0

    def options(self, *, stream: bool, method_name: str) -> Any:
        assert (stream, method_name) == (True, "answer")
        return self

    def remote(self, scope: Any, body: bytes) -> Any:
        self.asked.append((scope["path"], body))
        return _Response(next(self.answers), self)


class _Response:
    def __init__(self, messages: Sequence[Any], replicas: Replicas) -> None:
        self._messages, self._replicas = messages, replicas

    async def __aiter__(self) -> AsyncIterator[Any]:
        for message in self._messages:
            if isinstance(message, Exception):
                raise message
            yield message

    def cancel(self) -> None:
        self._replicas.ended += 1


def ask(replicas: Replicas) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(create_door(Options(), replicas))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post("/v1/caption", content=b"image")

    return asyncio.run(send())


@pytest.mark.parametrize("begun", [[], [JSON], [STREAM]], ids=["nothing", "head", "head of a stream"])
def test_another_replica_answers_if_nothing_was_sent_on(begun: Sequence[Any]) -> None:
    replicas = Replicas([[*begun, RayActorError()], [JSON, piece(b"{}")]])
    answer = ask(replicas)
    assert (answer.status_code, answer.content) == (200, b"{}")
    assert replicas.asked == [("/v1/caption", b"image")] * 2
    assert replicas.ended == 2


def test_a_stream_that_has_begun_ends_in_an_error_that_says_so() -> None:
    replicas = Replicas([[STREAM, piece(b"data: 1\n\n", True), RayActorError()]])
    lines = ask(replicas).text.split("\n\n")
    assert lines[0] == "data: 1"
    assert '"code": "replica_lost"' in lines[1]
    assert lines[2:] == ["data: [DONE]", ""]


def test_another_answer_that_has_begun_is_broken_off() -> None:
    with pytest.raises(ConnectionError):
        ask(Replicas([[JSON, piece(b"{", True), RayActorError()]]))


def test_replicas_that_all_die_are_an_error_that_says_so() -> None:
    answer = ask(Replicas([[RayActorError()]] * ATTEMPTS))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "replica_lost")


def test_wrong_options_are_refused_before_anything_starts() -> None:
    for options, named in (({"slotz": 3}, "did you mean 'slots'"), ({"api_key": " "}, "API key is empty")):
        with pytest.raises(ValueError, match=named):
            build(options)
