"""The process: it loads the model, listens, and finishes what it accepted when it is told to stop."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from openpali.serve.connection import Connection
from openpali.serve.http import create_app
from openpali.serve.service import Service

_MISSING = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # of an address, as of ::1 where IPv6 is off
LAST_WORDS = 2.0  # seconds in which the last errors are sent to clients


class Server(uvicorn.Server):
    """uvicorn's server; a signal that stops it ends the process with code 0, once requests are finished.

    It also stops when the engine has failed.

    Args:
        service: what it serves.
        drain: seconds to finish what was accepted; the rest is given up.
    """

    def __init__(self, service: Service, drain: float) -> None:
        config = uvicorn.Config(
            create_app(service),
            http=Connection,
            ws="none",
            log_level="warning",
            timeout_graceful_shutdown=math.ceil(drain + LAST_WORDS),
            timeout_keep_alive=math.ceil(service.limits.pause),
            server_header=False,
        )
        super().__init__(config)
        self._service, self._drain = service, drain

    async def on_tick(self, counter: int) -> bool:
        """Overrides uvicorn: whether to stop."""
        return await super().on_tick(counter) or bool(self._service.scheduler.failure)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Overrides uvicorn: stops within the time to drain."""
        end = asyncio.get_running_loop().call_later(self._drain, self._service.scheduler.give_up)
        await super().shutdown(sockets)
        end.cancel()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Overrides uvicorn, which re-raises the signal after shutdown and would kill the process."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread has signals
            return
        before = {each: signal.signal(each, self.handle_exit) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


def listen(host: str, port: int) -> tuple[list[socket.socket], str]:
    """Sockets that listen at every address of a host, and the URL of the first.

    Args:
        port: 0: any that is free.
    """
    found: list[socket.socket] = []
    try:
        addresses = dict.fromkeys(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))  # some are named twice
        for number, (family, _, _, _, (address, _, *scope)) in enumerate(addresses, 1):
            try:
                found.append(socket.create_server((address, port, *scope), family=family, backlog=2048))
            except OSError as error:
                if error.errno not in _MISSING or (number == len(addresses) and not found):
                    raise
                continue
            port = found[0].getsockname()[1]  # of 0, the system chooses one: the same for all addresses
    except socket.gaierror as error:
        raise OSError(f"cannot listen at {host}: {error.strerror}: choose another --host") from error
    except OSError as error:
        for each in found:
            each.close()
        told, option = os.strerror(error.errno or 0), "host" if error.errno in _MISSING else "port"
        raise OSError(f"cannot listen at {host}:{port}: {told}: choose another --{option}") from error
    name = f"[{host}]" if ":" in host else host
    return found, f"http://{name}:{found[0].getsockname()[1]}"
