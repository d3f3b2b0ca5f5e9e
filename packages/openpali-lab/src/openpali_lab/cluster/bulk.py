"""Bulk predictions on a Ray cluster: whichever process is free reads, answers or writes the next window of samples.

Each window becomes a file of a folder, written whole: every sample has one line, however often a process dies or
the whole job is started again. Windows and batches are those of one process, and so are the lines:
``cat FOLDER/*.jsonl`` is what ``openpali predict --output FILE`` writes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from openpali.data.sources.base import Source
from openpali.infer.batches import windows
from openpali.infer.bulk import AnswersFile, Asking, Done, Reply, Request, fetch
from openpali.infer.lines import Json, as_lines
from openpali.infer.pali import Pali
from openpali.messages import cannot_import
from openpali.tasks.example import Example
from openpali.whole import write_whole


@dataclass(frozen=True)
class Job:
    """What every process knows.

    Attributes:
        open_source: opens the samples, by a path that every machine has.
        open_model: opens the model, likewise.
        request: what to ask.
        run: identifies samples, model, engine and request; each line holds it.
        folder: of the answers, on a disk that every machine sees.
        batch: samples that go through the model together.
        threads: that torch computes with; another number may change the last digit of a score.
    """

    open_source: Callable[[], Source]
    open_model: Callable[[], Pali]
    request: Request
    run: str
    folder: Path
    batch: int
    threads: int

    def file(self, start: int) -> Path:
        """The file of the window that begins at a sample."""
        return self.folder / f"{start:012}.jsonl"


def answer(
    pali: Pali,
    open_source: Callable[[], Source],
    request: Request,
    run: str,
    folder: Path,
    batch: int,
    workers: int,
) -> Iterator[Done]:
    """Answer the windows that are not answered yet, and report each window; those that are there come first.

    Args:
        pali: the model, which every process opens for itself.
        open_source, request, run, folder, batch: see :class:`Job`.
        workers: models that answer at the same time.
    """
    job = Job(
        open_source,
        partial(Pali.from_pretrained, pali.folder.resolve(), pali.engine, pali.dtype, pali.device),
        request,
        run,
        folder.resolve(),
        batch,
        torch.get_num_threads(),
    )
    job.folder.mkdir(parents=True, exist_ok=True)
    source = open_source()
    there = _resume(job, len(source))
    yield from there.values()
    left = [window for window in windows(len(source), batch) if window.start not in there]
    if left:
        yield from _answer(job, left, workers, int(pali.device.type == "cuda"))


def _resume(job: Job, samples: int) -> dict[int, Done]:
    """The windows that are written, by their first sample."""
    expected = {job.file(window.start): window for window in windows(samples, job.batch)}
    other = "holds answers of another run, or of another --batch-size: name another folder, or delete it"
    found: dict[int, Done] = {}
    for path in sorted(job.folder.glob("*.jsonl")):
        file, window = AnswersFile(path, job.run), expected.get(path, range(0))
        done = file.read(partial(file.check, total=len(window), other=other))
        if done.samples != len(window):
            raise ValueError(f"{path} {other}")
        found[window.start] = done
    return found


def _answer(job: Job, left: Sequence[range], workers: int, gpus: int) -> Iterator[Done]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to Ray's makers
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ValueError(cannot_import("--ray needs Ray", "openpali-lab[ray]", error)) from error

    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    has = ray.cluster_resources()
    for kind, needed in (("CPU", workers), ("GPU", workers * gpus)):
        if has.get(kind, 0) < needed:
            raise ValueError(
                f"{workers} workers need {needed} {kind}s, and Ray has {has.get(kind, 0):.0f}: take fewer --workers"
            )
    ray.data.DataContext.get_current().enable_progress_bars = False
    items = [{"start": window.start, "stop": window.stop} for window in left]
    done = (
        ray.data.from_items(items, override_num_blocks=len(items))
        .map(_Reader, fn_constructor_args=[job], concurrency=(1, workers), num_cpus=0)
        .map(_Answerer, fn_constructor_args=[job], concurrency=workers, num_cpus=1, num_gpus=gpus)
        .map(_Writer(job), num_cpus=0)
    )
    for row in done.iter_rows():
        yield Done(**row)


@dataclass(frozen=True)
class _Read:
    """A window of samples, and what is wrong with those that cannot be read."""

    samples: Sequence[tuple[int, Example | Reply]]


class _Reader:
    """Reads and decodes windows."""

    def __init__(self, job: Job) -> None:
        self._source = job.open_source()

    def __call__(self, row: Mapping[str, Any]) -> Json:
        window = range(row["start"], row["stop"])
        return {"start": window.start, "read": _Read([(i, fetch(self._source, i)) for i in window])}


class _Answerer:
    """A model that encodes windows and generates their answers."""

    def __init__(self, job: Job) -> None:
        torch.set_num_threads(job.threads)
        self._job = job
        self._asking = Asking(job.open_model(), job.request)

    def __call__(self, row: Mapping[str, Any]) -> Json:
        replies = self._asking.answer(row["read"].samples, self._job.batch)
        lines = as_lines(reply.line(self._job.run) for reply in replies)
        return {"start": row["start"], "lines": lines}


@dataclass(frozen=True)
class _Writer:
    """Writes answered windows."""

    job: Job

    def __call__(self, row: Mapping[str, Any]) -> Json:
        write_whole(self.job.file(int(row["start"])), row["lines"])
        return vars(Done.of([json.loads(line) for line in row["lines"].splitlines()]))
