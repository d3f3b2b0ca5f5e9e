"""The process: it loads the model, listens, and finishes what it accepted when it is told to stop."""

from __future__ import annotations

import asyncio
import math
import signal
import socket
from types import FrameType

import uvicorn

from openpali.serve.http import create_app
from openpali.serve.service import Service

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
            ws="none",
            log_level="warning",
            timeout_graceful_shutdown=math.ceil(drain + LAST_WORDS),
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

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Overrides uvicorn, which raises the signal again after shutdown and would kill the process."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def listen(host: str, port: int) -> tuple[list[socket.socket], str]:
    """A socket that listens, and its URL.

    Args:
        port: 0: any that is free.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        opened = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        message = f"cannot listen at {host}:{port}: {error.strerror}: choose another --host or --port"
        raise OSError(message) from error
    name = f"[{host}]" if ":" in host else host
    return [opened], f"http://{name}:{opened.getsockname()[1]}"
