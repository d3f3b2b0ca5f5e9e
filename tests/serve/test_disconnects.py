"""Clients that go away in the middle of a stream: their slots are free within two steps, and it harms no other.

A short form in CI; ``make soak-serve`` breaks off 500 streams.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
from requests_to import chat, service_of, serving

from openpali.infer.pali import Pali
from openpali.serve.limits import Limits
from openpali.serve.scheduler import Scheduler
from openpali.serve.tickets import Ticket

BREAKS = int(os.environ.get("OPENPALI_SERVE_DISCONNECTS", "24"))
CLIENTS = 6
STEP = 0.03  # seconds, as a base model takes: the tiny one steps faster than a closed socket is noticed


class Steps:
    """Counts the steps that a scheduler makes, and notes the one at which each request ended."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.made = 0
        self.ended: dict[str, int] = {}
        self._turn, self._finished = scheduler.turn, scheduler.finished
        scheduler.turn = self._count  # type: ignore[method-assign]
        scheduler.finished = self._note

    def _count(self) -> bool:
        time.sleep(STEP)
        self.made += 1
        return self._turn()

    def _note(self, ticket: Ticket) -> None:
        self.ended[ticket.now.row.prompt] = self.made
        assert self._finished is not None
        self._finished(ticket)


def prompt_of(number: int) -> str:
    return f"Answer in en: what is {number}? <extra_id_0>"


def test_streams_that_are_broken_off_free_their_slots(pali: Pali, encoded: Sequence[str]) -> None:
    service = service_of(pali, Limits(), slots=CLIENTS)
    rest = chat("Answer in en: what? <extra_id_0>", encoded[0], max_tokens=8, stream=True)
    with serving(service) as url, httpx.Client(base_url=url, timeout=120) as client:
        expected = text_of(client.post("/v1/chat/completions", json=rest).text)
        steps = Steps(service.scheduler)

        def leave(number: int) -> int:
            """Read a few pieces and go away; gives the step that had been made then."""
            body = chat(
                prompt_of(number), encoded[number % 5], max_tokens=300, stream=True, temperature=2, seed=number
            )
            pieces = int(np.random.default_rng(number).integers(1, 6))
            with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=120) as answer:
                lines = (line for line in answer.iter_lines() if line)
                for _ in range(pieces):
                    assert next(lines).startswith("data: {")
            return steps.made

        def stay(_: int) -> str:
            return text_of(client.post("/v1/chat/completions", json=rest).text)

        with ThreadPoolExecutor(CLIENTS) as clients:
            others = [clients.submit(stay, i) for i in range(0, BREAKS, 8)]
            left = dict(enumerate(clients.map(leave, range(BREAKS))))
            assert [each.result() for each in others] == [expected] * len(others)
        counts = {
            f'http_requests_total{{path="/v1/chat/completions",status="200"}} {BREAKS + 1 + len(others)}.0',
            f'generations_total{{how="answered"}} {1 + len(others)}.0',
            f'generations_total{{how="Cancelled"}} {BREAKS}.0',
        }
        until, missing = time.monotonic() + 60, counts
        while missing and time.monotonic() < until:
            time.sleep(STEP)
            found = httpx.get(f"{url}/metrics").text
            missing = {each for each in counts if each not in found}
        assert not missing, found
        assert (service.scheduler.used, service.scheduler.waiting) == (0, 0)
    late = {i: steps.ended[prompt_of(i)] - step for i, step in left.items()}
    assert max(late.values()) <= 3, "two steps, and the one that was under way"


def text_of(stream: str) -> str:
    """The text of a whole stream."""
    events: list[Any] = [line[6:] for line in stream.splitlines() if line]
    assert events.pop() == "[DONE]"
    return "".join(json.loads(each)["choices"][0]["delta"]["content"] for each in events)
