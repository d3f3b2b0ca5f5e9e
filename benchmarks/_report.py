"""Shared by all benchmarks: interleaved runs in one process, medians, a table, ``--json FILE``."""

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
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

_LEAST = 0.01  # both sides of a ratio at least, if one is zero


@dataclass(frozen=True)
class Result:
    """Our value beside a peer's. ``ratio`` is above 1 if ours is better: a higher rate, less time or memory."""

    name: str
    ours: float
    peer: float
    peer_name: str
    unit: str
    ratio: float
    interval: tuple[float, float] | None = None  # of ours less the peer, 95 %


def need(module: str, package: str) -> Any:
    """Import a peer's module; if that fails, end the program and say what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SystemExit(
            f"this compares with {module} and cannot import it ({error}): pip install {package}"
        ) from error


def rate(
    name: str,
    ours: float,
    peer: float,
    peer_name: str,
    unit: str,
    interval: tuple[float, float] | None = None,
) -> Result:
    """A result for which more is better."""
    return Result(name, ours, peer, peer_name, unit, _ratio(ours, peer), interval)


def cost(name: str, ours: float, peer: float, peer_name: str, unit: str) -> Result:
    """A result for which less is better."""
    return Result(name, ours, peer, peer_name, unit, _ratio(peer, ours))


def _ratio(one: float, other: float) -> float:
    return one / other if one and other else max(one, _LEAST) / max(other, _LEAST)


def interleaved(
    runs: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warm: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    within: Mapping[str, Callable[[], AbstractContextManager[object]]] | None = None,
) -> dict[str, float]:
    """Median seconds of each run.

    All run once per round, in reverse order every second round, so that other load on the machine affects them
    alike.

    Args:
        runs: by name.
        rounds: number of timed runs of each.
        warm: number of rounds before, not timed.
        clock: wall time; for work on one thread ``time.process_time``, which other load does not stretch.
        within: context managers of runs that need one. If there are any, an untimed run precedes each timed one.
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
    """Facts about this machine and the versions of torch and ``packages``."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return {
        "cpu": _cpu(),
        "cores": len(cores),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": round(os.getloadavg()[0], 1),  # of others, before the benchmark begins
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", *packages)},
    }


def read_bandwidth() -> float:
    """Bytes per second that all threads together read from memory; best of ten, by three ways of reading."""
    block, best = torch.ones(2**27, dtype=torch.float32), 0.0
    for read in (block.max, block.sum, partial(torch.dot, block, block)):  # which is fastest depends on the machine
        for _ in range(10):
            began = time.perf_counter()
            read()
            best = max(best, 4 * block.numel() / (time.perf_counter() - began))
    return best


def resident(line: str) -> int:
    """Resident bytes of this process: ``VmRSS`` (now) or ``VmHWM`` (peak since :func:`release`). Linux only."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(text for text in status.splitlines() if text.startswith(line)).split()[1])


def release() -> None:
    """Return freed memory to the OS and reset the peak. Linux only."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def report(results: Iterable[Result], facts: Mapping[str, Any], file: Path | None) -> list[Result]:
    """Print each result as it comes, and a table at the end.

    Args:
        results: may be a generator that measures.
        facts: of :func:`machine`.
        file: after each result, all so far are written here, as ``{"machine", "results"}``.
    """
    found = []
    title = f"{facts['cpu']}, {facts['cores']} cores, load {facts['load']}"
    table = Table("what", "ours", "peer", "unit", "ratio", "peer's name", title=title)
    for result in results:
        found.append(result)
        ours, peer = (f"{value:,.4g}" for value in (result.ours, result.peer))
        ratio = f"{result.ratio:.2f}"
        print(f"{result.name}: {ours} {result.unit}, {result.peer_name} {peer}, ratio {ratio}", flush=True)
        table.add_row(result.name, ours, peer, result.unit, ratio, result.peer_name)
        if file is not None:
            rows = [{k: v for k, v in asdict(each).items() if v is not None} for each in found]
            record = {"machine": facts, "results": rows}
            file.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    Console().print(table)
    return found


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
