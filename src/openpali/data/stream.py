"""The stream of a run: counter -> encoded sample, through phases, mixtures and the quarantine."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
from torch.utils.data import DataLoader, Dataset

from openpali.data.encode import Arrays, Batch, Encoder
from openpali.data.images import Preprocess
from openpali.data.mixture import Draw, Mixture, rng_of
from openpali.tasks.base import Task
from openpali.tasks.example import Example

SUBSTITUTES = 8  # neighbours tried in the place of a bad sample


class Source(Protocol):
    """Examples by index. The same index always gives the same example."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...


@dataclass(frozen=True)
class Entry:
    """One line of a mixture: where examples come from and the task that writes them."""

    name: str
    source: Source
    task: Task
    weight: float


@dataclass(frozen=True)
class Phase:
    """A stretch of a run at one resolution and one mixture."""

    samples: int
    preprocess: Preprocess
    entries: Sequence[Entry]


@dataclass
class Sample:
    """An encoded example, the entry of its phase that it belongs to, and what was bad about those before it."""

    arrays: Arrays
    entry: int
    problems: list[str] = field(default_factory=list)


class Stream(Dataset[Sample]):
    """Counter -> sample: a pure function of (seed, counter), whatever the number of ranks and workers.

    A sample that cannot be read or encoded is replaced by a neighbour in the same source and reported; nothing
    that follows moves.
    """

    def __init__(self, phases: Sequence[Phase], encoder: Encoder, seed: int) -> None:
        self.phases, self.encoder, self.seed = phases, encoder, seed
        self.ends = list(accumulate(phase.samples for phase in phases))
        self.mixtures = [
            Mixture([len(e.source) for e in p.entries], [e.weight for e in p.entries], seed + 7919 * i)
            for i, p in enumerate(phases)
        ]

    def __len__(self) -> int:
        return self.ends[-1]

    def phase_of(self, counter: int) -> int:
        """Index of the phase that the sample at ``counter`` belongs to."""
        return int(np.searchsorted(self.ends, counter, side="right"))

    def place(self, counter: int) -> tuple[Phase, Draw]:
        """The phase that ``counter`` falls into, and which of its samples it is."""
        number = self.phase_of(counter)
        phase = self.phases[number]
        return phase, self.mixtures[number][counter - (self.ends[number] - phase.samples)]

    def __getitem__(self, counter: int) -> Sample:
        phase, draw = self.place(counter)
        entry = phase.entries[draw.source]
        problems: list[str] = []
        for attempt in range(SUBSTITUTES):
            index = (draw.example + attempt) % len(entry.source)
            try:
                arrays = self.encoder.encode(
                    entry.source[index], entry.task, phase.preprocess, rng_of(self.seed, 2, counter, attempt)
                )
            except (ValueError, OSError) as error:
                problems.append(f"{entry.name}[{index}]: {error}")
                continue
            return Sample(arrays, draw.source, problems)
        raise ValueError(
            f"{SUBSTITUTES} samples in a row cannot be used; the last ones: " + "; ".join(problems[-3:])
        )


@dataclass
class Loaded:
    """A batch of this rank with the entry of each row, and the problems met."""

    batch: Batch
    entries: list[int]
    problems: list[str]


def load(
    stream: Stream, *, start: int, batch: int, micro: int = 1, rank: int = 0, world: int = 1, workers: int = 1
) -> Iterator[list[Loaded]]:
    """This rank's slice of each global batch from counter ``start`` on, as ``micro`` micro-batches.

    The last incomplete batch of the stream is dropped. A rank takes consecutive counters, so that joining the
    ranks' slices gives the global batch in order.
    """
    share = batch // world // micro
    if share * world * micro != batch:
        raise ValueError(f"a batch of {batch} cannot be shared by {world} ranks x {micro} micro-batches")
    slices = [
        list(range(first + (rank * micro + m) * share, first + (rank * micro + m + 1) * share))
        for first in range(start, len(stream) - batch + 1, batch)
        for m in range(micro)
    ]
    loader: DataLoader[Any] = DataLoader(
        stream,
        batch_sampler=slices,
        num_workers=workers,
        collate_fn=_Collate(stream.encoder),
        prefetch_factor=4 if workers else None,
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=_ignore_signals,
    )
    group: list[Loaded] = []
    for loaded in loader:
        group.append(loaded)
        if len(group) == micro:
            yield group
            group = []


def _ignore_signals(_: int) -> None:
    """A stop request to the whole process group is the trainer's to answer; workers go when it goes."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


@dataclass(frozen=True)
class _Collate:
    encoder: Encoder

    def __call__(self, samples: Sequence[Sample]) -> Loaded:
        return Loaded(
            self.encoder.collate([s.arrays for s in samples]),
            [s.entry for s in samples],
            [problem for s in samples for problem in s.problems],
        )
