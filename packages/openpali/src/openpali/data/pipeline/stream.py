"""The stream of a run: counter -> encoded sample, through phases, mixtures and the quarantine."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import sys
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from openpali.data.media.native import AnyPreprocess
from openpali.data.pipeline.encode import Arrays, Batch, Encoder
from openpali.data.pipeline.mixture import Draw, Mixture
from openpali.data.sources.base import Source
from openpali.rng import derive_seed, generator
from openpali.tasks.base import Task

SUBSTITUTES = 8  # neighbours tried in place of a bad sample


@dataclass(frozen=True)
class Entry:
    """One line of a mixture: where examples come from and the task that writes them, if one does."""

    name: str
    source: Source
    task: Task | None
    weight: float


@dataclass(frozen=True)
class Phase:
    """A part of a run: ``samples`` samples at one resolution from one mixture."""

    samples: int
    preprocess: AnyPreprocess
    entries: Sequence[Entry]

    def mixture(self, seed: int) -> Mixture:
        """Its entries in the order that a seed gives."""
        sizes, weights = [len(e.source) for e in self.entries], [e.weight for e in self.entries]
        return Mixture(sizes, weights, seed, [e.name for e in self.entries])


@dataclass
class EncodedSample:
    """An encoded example."""

    arrays: Arrays  # the encoder's output
    entry: int  # index of its entry in the phase
    key: str  # name for logs
    problems: list[str] = field(default_factory=list)  # one sentence for each bad sample that it replaces


class Stream(Dataset[EncodedSample]):
    """Counter -> sample: a pure function of (seed, counter), whatever the number of ranks and workers.

    A sample that cannot be read or encoded is replaced by a neighbour in the same source and reported; no other
    sample changes.
    """

    def __init__(self, phases: Sequence[Phase], encoder: Encoder, seed: int) -> None:
        self.phases, self.encoder, self.seed = phases, encoder, seed
        self.ends = list(accumulate(phase.samples for phase in phases))
        seeds = [derive_seed(seed, "mixture", i) if i else seed for i in range(len(phases))]
        self.mixtures = [phase.mixture(own) for phase, own in zip(phases, seeds, strict=True)]

    def __len__(self) -> int:
        return self.ends[-1]

    def phase_of(self, counter: int) -> int:
        """Index of the phase that the sample at ``counter`` belongs to."""
        return int(np.searchsorted(self.ends, counter, side="right"))

    def place(self, counter: int) -> tuple[Phase, Draw]:
        """The phase that ``counter`` falls into, and the draw from its mixture. The last phase has no end here."""
        number = min(self.phase_of(counter), len(self.phases) - 1)
        phase = self.phases[number]
        return phase, self.mixtures[number][counter - (self.ends[number] - phase.samples)]

    def drawn(self, counter: int) -> dict[str, int]:
        """Entry name -> number of samples drawn from it before ``counter``, substitutes included."""
        found: dict[str, int] = {}
        for phase, mixture, end in zip(self.phases, self.mixtures, self.ends, strict=True):
            counts = mixture.drawn(min(max(counter - (end - phase.samples), 0), phase.samples))
            for entry, count in zip(phase.entries, counts.tolist(), strict=True):
                found[entry.name] = found.get(entry.name, 0) + count
        return found

    def __getitem__(self, counter: int) -> EncodedSample:
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
            return EncodedSample(arrays, draw.source, f"{entry.name}[{index}] {example.key}", problems)
        raise ValueError(
            f"{SUBSTITUTES} samples in a row cannot be used, at sample {counter}: fix or remove the source, then "
            "run the same command to continue. The last problems: " + "; ".join(problems[-3:])
        )


@dataclass
class Loaded:
    """A micro-batch of this rank, with the entry and the key of each row and the problems met."""

    batch: Batch
    entries: list[int]
    keys: list[str]
    problems: list[str]

    def pin_memory(self) -> Loaded:
        """A copy in pinned memory. The DataLoader calls this method if it pins batches."""
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
    ranks' slices gives the global batch; where the batch does not divide evenly, slices differ by one sample. Rows
    of similar length go into one micro-batch, which saves padding. ``pinned`` batches can be copied to a GPU while
    it computes. Workers end when the generator ends, fails or is closed.
    """
    if batch < world * micro:
        raise ValueError(
            f"a batch of {batch} cannot be shared by {world} ranks x {micro} micro-batches: raise the batch to "
            f"{world * micro} or more"
        )
    loader: DataLoader[Any] = DataLoader(
        _SamplesOrErrors(stream),
        batch_sampler=_RankSlices(start, len(stream), batch, batch * rank // world, batch * (rank + 1) // world),
        num_workers=workers,
        collate_fn=_Collate(stream.encoder, micro),
        prefetch_factor=4 if workers else None,
        multiprocessing_context=start_method() if workers else None,
        worker_init_fn=_ignore_stop_signals,
        pin_memory=pinned,
    )
    return _with_clear_errors(loader)


def start_method() -> str:
    """How workers are started: "fork", which shares memory; on Windows and macOS, whose libraries may crash after a
    fork, "spawn", which copies it."""
    fork = "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin"
    return "fork" if fork else "spawn"


@dataclass(frozen=True)
class _RankSlices:
    """Counters of a rank's slice of each global batch, from its ``low``-th sample up to its ``high``-th."""

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


class _SamplesOrErrors(Dataset["EncodedSample | str"]):
    """A sample, or the error message in its place: an exception would leave a worker with its traceback."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def __getitem__(self, counter: int) -> EncodedSample | str:
        try:
            return self.stream[counter]
        except ValueError as error:
            return str(error)


def _with_clear_errors(loader: DataLoader[Any]) -> Generator[list[Loaded]]:
    """The loader's micro-batches; each of its failures becomes an error of one sentence."""
    batches: Any = None
    try:
        batches = _start(loader)
        for loaded in batches:
            if isinstance(loaded, str):
                raise ValueError(loaded)
            yield loaded
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise OSError(
            f"a data worker was killed ({error}), perhaps for lack of memory: lower workers or batch, then run "
            "the same command to continue from the last checkpoint"
        ) from error
    finally:
        # An error keeps its stack frames, and they keep the workers. Those ignore SIGTERM, so no program with one
        # left can end.
        if batches is not None and loader.num_workers:
            batches._shutdown_workers()


def _start(loader: DataLoader[Any]) -> Iterator[list[Loaded] | str]:
    try:
        return iter(loader)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        if loader.num_workers == 0 or start_method() == "fork":
            raise
        raise ValueError(
            f"data workers cannot be started on this system, since the data cannot be copied to them ({error}): "
            "set workers to 0"
        ) from error


def _ignore_stop_signals(_: int) -> None:
    """The trainer answers a stop request to the whole process group; workers end when their loader does."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


@dataclass(frozen=True)
class _Collate:
    """Samples -> micro-batches, or the first error message among them."""

    encoder: Encoder
    micro: int

    def __call__(self, samples: Sequence[EncodedSample | str]) -> list[Loaded] | str:
        whole = [s for s in samples if isinstance(s, EncodedSample)]
        if len(whole) < len(samples):
            return next(s for s in samples if isinstance(s, str))
        if self.micro > 1:
            whole.sort(key=_text_length)
        bounds = [len(whole) * i // self.micro for i in range(self.micro + 1)]
        return [self._join(whole[low:high]) for low, high in pairwise(bounds)]

    def _join(self, samples: Sequence[EncodedSample]) -> Loaded:
        return Loaded(
            self.encoder.collate([s.arrays for s in samples]),
            [s.entry for s in samples],
            [s.key for s in samples],
            [problem for s in samples for problem in s.problems],
        )


def _text_length(sample: EncodedSample) -> int:
    """Number of text tokens, by which samples of a step are sorted into micro-batches."""
    return sum(array.size for name, array in sample.arrays.items() if name in ("prompt", "target"))
