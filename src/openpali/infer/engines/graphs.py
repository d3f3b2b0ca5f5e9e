"""The decoder's step as CUDA graphs: to launch its kernels one by one takes longer than a few rows' arithmetic.

A graph repeats kernels on the same tensors of the same shapes, while rows come, go and grow. So rows are kept at
the front of tensors whose sizes are rounded up, a bucket, and each bucket has its own graph. No GPU has run this
yet; on a CPU the tests run all of it but the recording.

Shapes: B rows, M memories (each shared by B // M consecutive rows), N positions of a memory, L of the text, V
vocabulary.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from openpali.model.pali import Memory, VisionLanguageModel
from openpali.model.rows import RowBuffer
from openpali.model.t5 import Cache, LayerCache, Slots

POSITIONS = 64  # sizes of memory and text are multiples of it
UNUSED = 4  # most recordings that wait for a cache to use them; each has memory of its own

Step = Callable[[], Tensor]


def record(step: Step) -> Step:
    """Record a step as a CUDA graph, which computes it again on the same tensors."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):  # libraries allocate and choose kernels in the first calls, which no graph can hold
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = step()

    def replay() -> Tensor:
        graph.replay()
        return logits

    return replay


class Bucket(NamedTuple):
    """Sizes of the tensors that a recording computes on: M, B // M, L, N."""

    memories: int
    shared: int
    text: int
    memory: int

    @classmethod
    def of(cls, cache: Cache) -> Bucket:
        """The smallest that has room for a cache."""
        keys, memory = cache.layers[0].keys, cache.layers[0].memory_keys
        memories = 1 << (len(memory) - 1).bit_length()
        return cls(memories, cache.rows_per_memory, _rounded(keys.length), _rounded(memory.length))

    def suits(self, need: Bucket) -> bool:
        """Whether a cache that needs a bucket does well in this one: less than a quarter full, a step would compute
        too much in vain."""
        return (
            need.memories <= self.memories < 4 * need.memories
            and self.shared == need.shared
            and self.text >= need.text
            and self.memory >= need.memory
        )


def _rounded(length: int) -> int:
    return -(-length // POSITIONS) * POSITIONS


@dataclass
class _Fixed(Cache):
    """A cache whose tensors stay as they are. ``positions``: the next one of each row, ``[B]``."""

    positions: Tensor

    def reserve(self, count: int) -> Slots:
        slots = Slots(0, self.max_length, self.positions[:, None])
        for layer in self.layers:
            layer.slots = slots
        return slots


class Recording:
    """A step on tensors of a bucket.

    Args:
        model: whose step it is.
        bucket: sizes.
        like: a cache of the same model.
        record: makes of a step what computes it again.
    """

    def __init__(
        self, model: VisionLanguageModel, bucket: Bucket, like: Cache, record: Callable[[Step], Step]
    ) -> None:
        self.bucket = bucket
        self.user: Callable[[], GraphCache | None] = lambda: None
        rows = bucket.memories * bucket.shared
        self._rooms = [_rooms(layer, bucket) for layer in like.layers]
        device = self._rooms[0][0].device
        self._ids = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self._positions = torch.zeros(rows, dtype=torch.long, device=device)
        self._mask = torch.ones(bucket.memories, 1, 1, bucket.memory, dtype=torch.bool, device=device)
        kind, layers = type(like.layers[0]), list[LayerCache]()
        for rooms in self._rooms:
            keys, values, memory_keys, memory_values = map(RowBuffer, rooms)
            layers.append(kind(keys, values, memory_keys, memory_values))
        cache = _Fixed(layers, self._mask, torch.zeros(rows, dtype=torch.long), bucket.text, self._positions)
        self._compute = record(lambda: model.step(self._ids, cache))

    @property
    def used(self) -> bool:
        """Whether a cache has its rows here."""
        user = self.user()
        return user is not None and user.recording is self

    def holds(self, cache: Cache) -> bool:
        """Whether the rows of a cache are here still: it has moved them if they had no room."""
        return all(buffer.is_in(room) for buffer, room in self._places(cache))

    def take(self, cache: Cache) -> None:
        """Move the rows of a cache here."""
        memory = cache.layers[0].memory_keys
        if cache.memory_mask is None:  # but what is beyond them here is not real
            cache.memory_mask = self._mask.new_ones(len(memory), 1, 1, memory.length)
        for buffer, room in self._places(cache):
            buffer.move(room)

    def _places(self, cache: Cache) -> Iterator[tuple[RowBuffer, Tensor]]:
        """What a cache keeps, and where it goes here."""
        for layer, rooms in zip(cache.layers, self._rooms, strict=True):
            buffers = layer.keys, layer.values, layer.memory_keys, layer.memory_values
            yield from zip(buffers, rooms, strict=True)

    def step(self, ids: Tensor, cache: Cache, slots: Slots) -> Tensor:
        """Logits ``[B, 1, V]`` after the next token of each row, ``[B, 1]``; they stand until the next step."""
        count = len(ids)
        self._ids[:count] = ids
        self._positions[:count] = slots.start if slots.rows is None else slots.rows[:, 0]
        assert cache.memory_mask is not None
        real = self._mask[: len(cache.memory_mask)]
        real.fill_(False)
        real[..., : cache.memory_mask.shape[3]] = cache.memory_mask
        return self._compute()[:count]


def _rooms(layer: LayerCache, bucket: Bucket) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Empty tensors of a bucket's sizes: keys and values, then those of the memory."""

    def room(like: Tensor, rows: int, length: int) -> Tensor:
        return like.new_zeros(rows, like.shape[1], length, like.shape[3])

    past = layer.keys.rows, bucket.memories * bucket.shared, bucket.text
    memory = layer.memory_keys.rows, bucket.memories, bucket.memory
    return room(*past), room(*past), room(*memory), room(*memory)


class GraphCache:
    """A cache whose rows are in a recording's tensors.

    Args:
        cache: the rows; it moves them if they have no room where they are.
    """

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.recording: Recording | None = None

    def reorder(self, rows: Tensor) -> None:
        """As :meth:`openpali.model.t5.Cache.reorder`."""
        self.cache.reorder(rows)

    def append(self, other: GraphCache) -> None:
        """As :meth:`openpali.model.t5.Cache.append`."""
        self.cache.append(other.cache)


class GraphedModel:
    """What :func:`openpali.infer.generate.generate` needs of a model, with a graph for each step of the decoder.

    Args:
        model: on a GPU, in evaluation mode.
        record: makes of a step what computes it again; a test without a GPU gives the step itself.
    """

    def __init__(self, model: VisionLanguageModel, record: Callable[[Step], Step] = record) -> None:
        self.model = model
        self.first = model.first
        self.recordings: list[Recording] = []
        self._record = record

    def encode(self, images: Tensor | None, prompt: Tensor, frames: Tensor | None = None) -> Memory:
        """As :meth:`openpali.model.pali.VisionLanguageModel.encode`."""
        return self.model.encode(images, prompt, frames)

    def encode_tokens(self, visual: Tensor | None, prompt: Tensor, frames: Tensor | None = None) -> Memory:
        """As :meth:`openpali.model.pali.VisionLanguageModel.encode_tokens`."""
        return self.model.encode_tokens(visual, prompt, frames)

    def embed_images(self, images: Tensor) -> Tensor:
        """As :meth:`openpali.model.pali.VisionLanguageModel.embed_images`."""
        return self.model.embed_images(images)

    def start(self, memory: Memory, max_length: int) -> GraphCache:
        """A cache to generate up to ``max_length`` tokens."""
        return GraphCache(self.model.start(memory, max_length))

    @torch.inference_mode()
    def step(self, ids: Tensor, cache: GraphCache) -> Tensor:
        """Feed the next token of each row ``[B, 1]``; logits of the one after it, ``[B, 1, V]``, until the next
        step."""
        slots = cache.cache.reserve(1)
        need = Bucket.of(cache.cache)
        recording = cache.recording
        if recording is None or not (recording.holds(cache.cache) and recording.bucket.suits(need)):
            recording = self._find(need, cache.cache)
            recording.take(cache.cache)
            recording.user, cache.recording = weakref.ref(cache), recording
        return recording.step(ids, cache.cache, slots)

    def _find(self, need: Bucket, cache: Cache) -> Recording:
        """A recording that no cache uses; a new one if there is none of this bucket."""
        unused = [each for each in self.recordings if not each.used]
        for each in unused:
            if each.bucket == need:
                return each
        for each in unused[: max(0, len(unused) - UNUSED)]:
            self.recordings.remove(each)
        self.recordings.append(Recording(self.model, need, cache, self._record))
        return self.recordings[-1]
