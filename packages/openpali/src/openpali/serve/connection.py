"""Connections that silent clients do not hold for ever: uvicorn's, with a limit on how long nothing may happen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    """A connection, closed after ``timeout_keep_alive`` seconds (of uvicorn's configuration) in which the headers
    of a request have not come, however they dribble in, or in which a client has read nothing of its answer.

    The body of a request is limited by :class:`openpali.serve.guard.Guard`. A client that closes its side counts as
    gone, since nothing tells it from one that has closed both.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._limit(transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._free()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            if not self.flow.write_paused:  # then the limit is on what is read
                self._free()
        elif self._timer is None:
            self._limit(self.transport.close)  # these are the first bytes of the next request

    def send_400_response(self, msg: str) -> None:
        if self.cycle is not None:  # no answer of the application can follow this one
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:  # the answer has begun: h11 raises for a second one
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._limit_reading()

    def resume_writing(self) -> None:
        self._free()
        super().resume_writing()

    def _limit_reading(self) -> None:
        before = self.transport.get_write_buffer_size()  # nothing is added to it until writing resumes

        def look() -> None:
            if self.transport.get_write_buffer_size() < before:
                self._limit_reading()
            else:
                self.transport.abort()  # close would wait until the buffer is empty

        self._limit(look)

    def _limit(self, end: Callable[[], None]) -> None:
        self._free()
        self._timer = self.loop.call_later(self.timeout_keep_alive, end)

    def _free(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
