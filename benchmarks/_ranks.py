"""Start ranks as forks of a process that has done all imports, which is much faster than new interpreters."""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterable


def fork_ranks(world: int, node: int, body: Callable[[int], None]) -> list[int]:
    """Run ``body(rank)`` in a fork for each rank, with the environment of torchrun and ``node`` ranks per node.

    Returns their process ids. A rank that fails prints its traceback and exits with status 1. A rank that
    raises SystemExit ends like a command, after its threads.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
    os.environ["LOCAL_WORLD_SIZE"] = str(min(world, node))
    children = []
    for rank in range(world):
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        if child := os.fork():
            children.append(child)
            continue
        try:
            body(rank)
        except SystemExit:
            raise
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return children


def wait_for(children: Iterable[int]) -> None:
    """Wait for all ranks. If one fails, end the others, which wait for it, and the program."""
    running = set(children)
    while running:
        child, status = os.wait()
        running.remove(child)
        if status:
            for other in running:
                os.kill(other, signal.SIGKILL)
            sys.exit("a rank failed")
