"""What every benchmark shares: interleaved runs in one process, medians, a table, ``--json FILE``."""

from __future__ import annotations

import ctypes
import gc
import importlib
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Result:
    """Ours beside a peer's. ``ratio`` is above 1 where ours is better: more of a rate, less of a time or memory."""

    name: str
    ours: float
    peer: float
    peer_name: str
    unit: str
    ratio: float


def need(module: str, package: str) -> Any:
    """A module of a peer. Ends the program with what to install where it cannot be imported."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SystemExit(
            f"this compares with {module} and cannot import it ({error}): pip install {package}"
        ) from error


def rate(name: str, ours: float, peer: float, peer_name: str, unit: str) -> Result:
    """A result of which more is better."""
    return Result(name, ours, peer, peer_name, unit, ours / peer)


def cost(name: str, ours: float, peer: float, peer_name: str, unit: str) -> Result:
    """A result of which less is better."""
    return Result(name, ours, peer, peer_name, unit, peer / ours)


def interleaved(
    runs: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warm: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    within: Mapping[str, Callable[[], AbstractContextManager[object]]] | None = None,
) -> dict[str, float]:
    """Median seconds of each run.

    All are run once a round, from the other end every second round, so that what else the machine does meets them
    alike. ``clock`` is the time on the wall, or for work on one thread ``time.process_time``, which a busy machine
    does not stretch. ``within`` are the surroundings of runs that have their own; with them each turn of any run
    begins with one that is not timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(-warm, rounds):
        for name in list(runs)[:: -1 if number % 2 else 1]:
            with (within or {}).get(name, nullcontext)():
                if within:
                    runs[name]()
                began = clock()
                runs[name]()
                if number >= 0:
                    seconds[name].append(clock() - began)
    return {name: statistics.median(each) for name, each in seconds.items()}


def machine(*packages: str) -> dict[str, Any]:
    """What the numbers were taken on; ``packages`` are those compared with."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return {
        "cpu": _cpu(),
        "cores": len(cores),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": round(os.getloadavg()[0], 1),  # before the benchmark began: others on the machine
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", *packages)},
    }


def read_bandwidth() -> float:
    """Bytes per second that all threads read from memory, the best of ten."""
    block, best = torch.ones(2**27, dtype=torch.float32), 0.0
    for _ in range(10):
        began = time.perf_counter()
        block.max()
        best = max(best, 4 * block.numel() / (time.perf_counter() - began))
    return best


def resident(line: str) -> int:
    """Bytes of ``VmRSS`` (now) or ``VmHWM`` (at most, since :func:`release`)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(text for text in status.splitlines() if text.startswith(line)).split()[1])


def release() -> None:
    """Give freed memory back to the system, and forget the peak."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def report(results: Sequence[Result], facts: Mapping[str, Any], file: Path | None) -> None:
    """Print a table, and write ``{"machine", "results"}`` to ``file`` if there is one."""
    title = f"{facts['cpu']}, {facts['cores']} cores, load {facts['load']}"
    table = Table("what", "ours", "peer", "unit", "ratio", "peer's name", title=title)
    for result in results:
        numbers = (f"{value:,.4g}" for value in (result.ours, result.peer))
        table.add_row(result.name, *numbers, result.unit, f"{result.ratio:.2f}", result.peer_name)
    Console().print(table)
    if file is not None:
        record = {"machine": facts, "results": [asdict(result) for result in results]}
        file.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
