"""The stream of a run: counter -> encoded sample, through phases, mixtures and the quarantine."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Any, Protocol

import numpy as np
from torch.utils.data import DataLoader, Dataset

from openpali.data.media.images import Preprocess
from openpali.data.pipeline.encode import Arrays, Batch, Encoder
from openpali.data.pipeline.mixture import Draw, Mixture
from openpali.rng import derive_seed, generator
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
    """An encoded example, the entry of its phase that it belongs to, its key, what was bad about those before."""

    arrays: Arrays
    entry: int
    key: str
    problems: list[str] = field(default_factory=list)


class Stream(Dataset[Sample]):
    """Counter -> sample: a pure function of (seed, counter), whatever the number of ranks and workers.

    A sample that cannot be read or encoded is replaced by a neighbour in the same source and reported; nothing
    that follows moves.
    """

    def __init__(self, phases: Sequence[Phase], encoder: Encoder, seed: int) -> None:
        self.phases, self.encoder, self.seed = phases, encoder, seed
        self.ends = list(accumulate(phase.samples for phase in phases))
        seeds = [derive_seed(seed, "mixture", i) if i else seed for i in range(len(phases))]
        self.mixtures = [
            Mixture([len(e.source) for e in phase.entries], [e.weight for e in phase.entries], own)
            for phase, own in zip(phases, seeds, strict=True)
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

    def drawn(self, counter: int) -> dict[str, int]:
        """How many of the samples before ``counter`` each entry has given, in place of bad ones too."""
        found: dict[str, int] = {}
        for phase, mixture, end in zip(self.phases, self.mixtures, self.ends, strict=True):
            counts = mixture.drawn(min(max(counter - (end - phase.samples), 0), phase.samples))
            for entry, count in zip(phase.entries, counts.tolist(), strict=True):
                found[entry.name] = found.get(entry.name, 0) + count
        return found

    def __getitem__(self, counter: int) -> Sample:
        phase, draw = self.place(counter)
        entry = phase.entries[draw.source]
        problems: list[str] = []
        for attempt in range(SUBSTITUTES):
            index = (draw.example + attempt) % len(entry.source)
            try:
                example = entry.source[index]
                rng = generator(self.seed, 2, counter, attempt)
                arrays = self.encoder.encode(example, entry.task, phase.preprocess, rng)
            except (ValueError, OSError) as error:
                problems.append(f"{entry.name}[{index}]: {error}")
                continue
            return Sample(arrays, draw.source, f"{entry.name}[{index}] {example.key}", problems)
        raise ValueError(
            f"{SUBSTITUTES} samples in a row cannot be used, at sample {counter}: mend or move the source, and the "
            "same command goes on. The last ones: " + "; ".join(problems[-3:])
        )


@dataclass
class Loaded:
    """A batch of this rank with the entry and the key of each row, and the problems met."""

    batch: Batch
    entries: list[int]
    keys: list[str]
    problems: list[str]

    def pin_memory(self) -> Loaded:
        """What the loader asks for where batches are to be pinned."""
        return replace(self, batch={key: value.pin_memory() for key, value in self.batch.items()})


def load(
    stream: Stream,
    *,
    start: int,
    batch: int,
    micro: int = 1,
    rank: int = 0,
    world: int = 1,
    workers: int = 1,
    pinned: bool = False,
) -> Generator[list[Loaded]]:
    """This rank's slice of each global batch from counter ``start`` on, as ``micro`` micro-batches.

    The last incomplete batch of the stream is dropped. A rank takes consecutive counters, so that joining the
    ranks' slices gives the global batch; where they do not divide the batch, slices differ by one. Rows of like
    length come into one micro-batch, which saves padding. ``pinned`` batches can be copied to a GPU while it
    computes. Workers end when the generator does, or is closed.

    Raises:
        ValueError: fewer samples in a batch than slices; or a sample that cannot be had, nor its neighbours.
        OSError: a worker was killed.
    """
    if batch < world * micro:
        raise ValueError(f"a batch of {batch} cannot be shared by {world} ranks x {micro} micro-batches")
    loader: DataLoader[Any] = DataLoader(
        _Guarded(stream),
        batch_sampler=_Slices(start, len(stream), batch, batch * rank // world, batch * (rank + 1) // world),
        num_workers=workers,
        collate_fn=_Collate(stream.encoder, micro),
        prefetch_factor=4 if workers else None,
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=_ignore_signals,
        pin_memory=pinned,
    )
    return _mended(loader)


@dataclass(frozen=True)
class _Slices:
    """Counters of a rank's slice of each batch, from its ``low``-th sample up to its ``high``-th."""

    start: int
    end: int
    batch: int
    low: int
    high: int

    def __iter__(self) -> Iterator[list[int]]:
        for first in range(self.start, self.end - self.batch + 1, self.batch):
            yield list(range(first + self.low, first + self.high))

    def __len__(self) -> int:
        return max(0, self.end - self.start) // self.batch


class _Guarded(Dataset["Sample | str"]):
    """A sample, or the sentence why there is none: an exception would leave a worker with its traceback."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def __getitem__(self, counter: int) -> Sample | str:
        try:
            return self.stream[counter]
        except ValueError as error:
            return str(error)


def _mended(loader: DataLoader[Any]) -> Generator[list[Loaded]]:
    """What a loader gives, with its failures as one sentence each."""
    try:
        for loaded in loader:
            if isinstance(loaded, str):
                raise ValueError(loaded)
            yield loaded
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise OSError(
            f"a data worker was killed ({error}), perhaps for want of memory: lower workers or batch, and the same "
            "command goes on from the last checkpoint"
        ) from error


def _ignore_signals(_: int) -> None:
    """A stop request to the whole process group is the trainer's to answer; workers go when their loader does."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


@dataclass(frozen=True)
class _Collate:
    encoder: Encoder
    micro: int

    def __call__(self, samples: Sequence[Sample | str]) -> list[Loaded] | str:
        whole = [s for s in samples if isinstance(s, Sample)]
        if len(whole) < len(samples):
            return next(s for s in samples if isinstance(s, str))
        if self.micro > 1:
            whole.sort(key=_length)
        bounds = [len(whole) * i // self.micro for i in range(self.micro + 1)]
        return [self._join(whole[low:high]) for low, high in pairwise(bounds)]

    def _join(self, samples: Sequence[Sample]) -> Loaded:
        return Loaded(
            self.encoder.collate([s.arrays for s in samples]),
            [s.entry for s in samples],
            [s.key for s in samples],
            [problem for s in samples for problem in s.problems],
        )


def _length(sample: Sample) -> int:
    """Tokens of a sample; whatever else it is made of is of one size in a phase."""
    return sum(array.size for name, array in sample.arrays.items() if name in ("prompt", "target"))
