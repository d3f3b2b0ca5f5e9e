"""Clients that wait for an answer: until when, and whether they are still there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from openpali.serve.errors import ApiError
from openpali.serve.tickets import Cancelled, TooLate

T = TypeVar("T")


class Client:
    """Waits for work in threads. They cannot be stopped, so the work itself asks whether the client still waits.

    Args:
        seconds: how long it waits.
    """

    def __init__(self, request: Request, seconds: float) -> None:
        self._request = request
        self._until = time.monotonic() + seconds
        self._waits = True

    @property
    def left(self) -> float:
        """Seconds until it waits no longer."""
        return self._until - time.monotonic()

    async def wait(self, work: Awaitable[T], drop: Callable[[T], None] | None = None) -> T:
        """The result of ``work``, which goes on if nobody waits any more.

        Args:
            drop: is given a result that comes too late.

        Raises:
            ClientDisconnect: the client has gone away.
            ApiError: 504 if its time is up, 503 if the server ends meanwhile.
        """

        def end(done: asyncio.Future[T]) -> None:
            failed = done.cancelled() or done.exception()  # asyncio logs an exception for which nobody asks
            if drop is not None and not failed:
                drop(done.result())

        running = asyncio.ensure_future(work)
        try:
            return await first(asyncio.shield(running), self._request, self._until)
        except BaseException as error:
            self._waits = False
            running.add_done_callback(end)
            if isinstance(error, asyncio.CancelledError):  # the time to answer what has begun is over
                raise stopping() from error
            raise

    def check(self) -> None:
        """Called by the work, in its thread.

        Raises:
            Cancelled, TooLate: nobody waits any more.
        """
        if self.left < 0:
            raise TooLate
        if not self._waits:
            raise Cancelled


async def first(work: Awaitable[T], request: Request, until: float | None = None) -> T:
    """The result of ``work``.

    Raises:
        ClientDisconnect: the client goes away before.
    """
    done, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    both: set[asyncio.Future[Any]] = {done, gone}
    left = None if until is None else until - time.monotonic()
    try:
        await asyncio.wait(both, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if done.done():
            return done.result()
        raise ClientDisconnect if gone.done() else too_late()
    finally:
        for each in both:
            each.cancel()


async def _gone(request: Request) -> None:
    """Returns when the client has closed the connection. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def stopping() -> ApiError:
    """The 503 error for a request that the end of the server cuts off."""
    return ApiError(503, "the server is stopping", code="unavailable")


def too_late() -> ApiError:
    """The 504 error for a request whose deadline has passed."""
    return ApiError(504, str(TooLate()), code="deadline_exceeded")
