"""The process: it loads the model, listens, and finishes what it accepted when it is told to stop."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from openpali.serve.connection import Connection


class Server(uvicorn.Server):
    """uvicorn's server; a signal that stops it ends the process with code 0, once requests are finished."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, which sends itself the signal again at the end, and so dies of it."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread has signals
            return
        before = {each: signal.signal(each, self.handle_exit) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


def open_server(app: FastAPI, host: str, port: int, drain: float, pause: float) -> Server:
    """A server that does not listen yet.

    Args:
        drain: seconds to finish what was accepted.
        pause: seconds for which a client may be silent (:class:`openpali.serve.connection.Connection`).
    """
    return Server(
        uvicorn.Config(
            app,
            host,
            port,
            http=Connection,
            ws="none",
            log_level="warning",
            timeout_graceful_shutdown=round(drain),
            timeout_keep_alive=math.ceil(pause),
            server_header=False,
        )
    )


def serve(app: FastAPI, host: str, port: int, drain: float, pause: float) -> None:
    """Listen until the process is told to stop; arguments as for :func:`open_server`.

    Raises:
        OSError: the port is taken.
    """
    open_server(app, host, port, drain, pause).run()
